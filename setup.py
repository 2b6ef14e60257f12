from setuptools import setup; setup()  # fmt: skip
