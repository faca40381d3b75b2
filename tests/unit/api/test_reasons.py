from covey_api.reasons import CHAPTERS, EXPLANATIONS
from covey_api.reference import reasons_page
from covey_api.status import Reason


def test_every_reason_is_explained_once():
    explained = [reason for chapter in CHAPTERS for reason in chapter.reasons]
    assert sorted(explained) == sorted(Reason)
    assert len(explained) == len(set(explained))


def test_every_explanation_says_what_it_means_and_what_to_do():
    for reason, explanation in EXPLANATIONS.items():
        assert explanation.meaning.endswith("."), reason
        assert explanation.remedy.endswith("."), reason


def test_every_reason_has_a_section_that_can_be_linked_to():
    page = reasons_page()
    for reason in Reason:
        assert f"\n### {reason}\n" in page
