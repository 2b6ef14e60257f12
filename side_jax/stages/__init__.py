"""What each stage does: reads artifacts, calls the library, writes artifacts. Order and resuming are the pipeline's.

For each stage NAME: `NAME_spec` lists what its result depends on, `NAME` makes it and returns facts for its manifest.
"""
