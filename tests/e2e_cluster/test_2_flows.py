"""The unmodified SDK through the Service over TLS: the flows of tests/e2e, which run them on one machine."""

from tests.e2e.conftest import pdf
from tests.e2e.test_conversations import (
    test_a_background_response_can_be_followed_and_cancelled,
    test_a_conversation_of_five_turns_remembers,
    test_a_stream_is_gapless_and_resumes_anywhere,
    test_anothers_id_and_an_unknown_id_are_the_same_404,
    test_deleted_means_gone,
    test_several_turns_and_a_cancel_on_one_socket,
    test_special_tokens_in_content_stay_text,
)
from tests.e2e.test_documents import (
    test_an_answer_cites_the_document_it_comes_from,
    test_search_finds_the_passage_with_its_place,
    vector_store,
)

__all__ = [
    "pdf",
    "test_a_background_response_can_be_followed_and_cancelled",
    "test_a_conversation_of_five_turns_remembers",
    "test_a_stream_is_gapless_and_resumes_anywhere",
    "test_an_answer_cites_the_document_it_comes_from",
    "test_anothers_id_and_an_unknown_id_are_the_same_404",
    "test_deleted_means_gone",
    "test_search_finds_the_passage_with_its_place",
    "test_several_turns_and_a_cancel_on_one_socket",
    "test_special_tokens_in_content_stay_text",
    "vector_store",
]
