from tests.policy import sweep


def test_every_image_names_its_registry_and_version() -> None:
    sweep.obeyed("named-images")


def test_an_image_without_a_fixed_name_is_refused() -> None:
    sweep.refused("named-images")
