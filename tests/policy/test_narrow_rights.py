from tests.policy import sweep


def test_no_role_or_binding_gives_more_than_it_names() -> None:
    sweep.obeyed("narrow-rights")


def test_a_role_or_binding_that_gives_everything_or_to_everybody_is_refused() -> None:
    sweep.refused("narrow-rights")
