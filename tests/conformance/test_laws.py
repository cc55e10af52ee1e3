import pytest

from tests.conformance.conftest import Stages
from tests.conformance.laws import LAWS, Law


@pytest.mark.parametrize("style", ["status", "envelope200"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_emulator_keeps_the_laws(stages: Stages, law: Law, style: str) -> None:
    law(stages(style))
