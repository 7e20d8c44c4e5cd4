"""What became of a batch that runs, as the gateway has the retriever keep it in parts."""

import pytest
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import NotFound
from cloister_common.ids import new_id


async def test_parts_are_kept_as_they_came_for_their_tenant_alone_and_removed_together(
    client: RetrieverClient, tenant: str
) -> None:
    batch_id, other = new_id("batch_"), new_id("batch_")
    one, two = new_id("part_"), new_id("part_")
    await client.parts.put(tenant, batch_id, one, b"\x00sealed\xff" * 1000)
    await client.parts.put(tenant, batch_id, two, b"")
    await client.parts.put(tenant, other, one, b"of another batch")
    assert await client.parts.get(tenant, batch_id, one) == b"\x00sealed\xff" * 1000
    assert await client.parts.get(tenant, batch_id, two) == b""
    assert await client.parts.get(tenant, batch_id, new_id("part_")) is None
    assert await client.parts.get("proj_other", batch_id, one) is None
    await client.parts.drop("proj_other", batch_id)
    assert await client.parts.get(tenant, batch_id, one) is not None
    for _ in range(2):
        await client.parts.drop(tenant, batch_id)
    assert await client.parts.get(tenant, batch_id, one) is None
    assert await client.parts.get(tenant, other, one) == b"of another batch"


@pytest.mark.parametrize("wrong", ["batch_0", "../../keys", "vsfb_" + "0" * 48])
async def test_what_is_no_id_of_a_batch_or_part_reaches_no_path(
    client: RetrieverClient, tenant: str, wrong: str
) -> None:
    part_id = new_id("part_")
    for batch_id, part in ((wrong, part_id), (new_id("batch_"), wrong)):
        with pytest.raises(NotFound):
            await client.parts.put(tenant, batch_id, part, b"x")
        assert await client.parts.get(tenant, batch_id, part) is None
    with pytest.raises(NotFound):
        await client.parts.drop(tenant, wrong)
