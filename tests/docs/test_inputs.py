from docs.inputs import KINDS, PAGE, lines, page


def test_page_is_what_the_tests_say():
    """Made again by python -m docs.inputs."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_kind_of_input_has_a_test():
    assert {line.kind for line in lines()} == set(range(len(KINDS)))
