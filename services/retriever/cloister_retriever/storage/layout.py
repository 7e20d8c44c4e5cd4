"""Where everything lies in the object store. Paths hold random ids, HMAC names and nothing else.

keys/<sha256>                                wrapped keys
key-names/<kind>/<id>                        which of them there are; tenants' keys are not named
t/<tenant>/files/<file>                      a file's record          <tenant> is an HMAC of the tenant's id
t/<tenant>/contents/<file>                   its sealed segments
t/<tenant>/uploads/<upload>                  an upload's record
t/<tenant>/upload-endings/<upload>           how it ended; of those who end it one creates this
t/<tenant>/parts/<upload>/<part>             the sealed segments of a part
t/<tenant>/access/<file>                     who may see it, where not everybody may
t/<tenant>/access-change                     the last change of any of these
t/<tenant>/uses/<file>/<store>               the vector stores it is attached to
t/<tenant>/stores/<store>                    a vector store's record
t/<tenant>/activity/<store>                  when it was last used
t/<tenant>/changes/<store>                   when passages were last added to it
t/<tenant>/editions/<store>/<number>         in which editions it is there; the last of these counts
t/<tenant>/copying/<place>/<attachment>      what is just being written into an edition
t/<tenant>/attachments/<store>/<file>        a file in a store: attributes, chunking
t/<tenant>/detached/<store>/<hour>/<file>    where a detached file was in the list; an hour or two
t/<tenant>/outcomes/<store>/<attachment>     how its ingestion ended; created once, never replaced
t/<tenant>/readings/<store>/<attachment>     how far that is, of one that takes long
t/<tenant>/texts/<store>/<attachment>        the text that was extracted
t/<tenant>/words/<place>/<attachment>        its words               <place> is that of the store's edition
t/<tenant>/pictures/<store>/<attachment>/<number>   a picture in it
t/<tenant>/outgrown/<store>                  when a sealed store outgrew its protection; created once
t/<tenant>/packs/<place>/<attachment>/<file>/<first>-<count>   passages of a sealed vector store
t/<tenant>/bundles/<place>/<kind>/<bundle>-data       copies of many small packs, or of words, in one
t/<tenant>/bundles/<place>/<kind>/<bundle>-members    which attachments those are of
t/<tenant>/<kind>-register/<place>/register-<number>              which packs, or words, there are
t/<tenant>/<kind>-register/<place>/changed-<attachment>-<random>  since then those of this attachment have changed
t/<tenant>/batches/<store>/<batch>           a file batch
t/<tenant>/results/<batch>/<part>            what became of lines of a batch that runs, as the gateway sealed it
queue/<time>-<share>-<magnitude>-<job>       work to do          <share> is another HMAC of the tenant's id, cut
leases/<job>-<number>                        who does it
expiring/<store>                             stores that have an expiry
due/<seconds>-<id>                           files and uploads that end then
charges/<attachment>                         what its ingestion uses, until a gateway has it
staging/<random>                             what is being written; in a folder only
"""

from cloister_common.vault import Keyring

__all__ = ["CHARGES", "DUE", "EXPIRING", "LEASES", "QUEUE", "TenantPaths", "tenant_paths"]

QUEUE = "queue"
LEASES = "leases"
EXPIRING = "expiring"
DUE = "due"
CHARGES = "charges"


class TenantPaths:
    """The paths of one tenant."""

    def __init__(self, name: str) -> None:
        self._root = f"t/{name}"
        self.files = f"{self._root}/files"
        self.contents = f"{self._root}/contents"
        self.file_accesses = f"{self._root}/access"
        self.access_change = f"{self._root}/access-change"
        self.stores = f"{self._root}/stores"

    def file(self, file_id: str) -> str:
        return f"{self.files}/{file_id}"

    def content(self, file_id: str) -> str:
        return f"{self.contents}/{file_id}"

    def file_access(self, file_id: str) -> str:
        return f"{self.file_accesses}/{file_id}"

    def upload(self, upload_id: str) -> str:
        return f"{self._root}/uploads/{upload_id}"

    def upload_ending(self, upload_id: str) -> str:
        return f"{self._root}/upload-endings/{upload_id}"

    def parts(self, upload_id: str) -> str:
        return f"{self._root}/parts/{upload_id}"

    def part(self, upload_id: str, part_id: str) -> str:
        return f"{self.parts(upload_id)}/{part_id}"

    def uses(self, file_id: str) -> str:
        return f"{self._root}/uses/{file_id}"

    def use(self, file_id: str, store_id: str) -> str:
        return f"{self.uses(file_id)}/{store_id}"

    def store(self, store_id: str) -> str:
        return f"{self.stores}/{store_id}"

    def activity(self, store_id: str) -> str:
        return f"{self._root}/activity/{store_id}"

    def changes(self, store_id: str) -> str:
        return f"{self._root}/changes/{store_id}"

    def editions(self, store_id: str) -> str:
        return f"{self._root}/editions/{store_id}"

    def edition(self, store_id: str, number: int) -> str:
        return f"{self.editions(store_id)}/{number:08d}"

    def copying(self, place: str) -> str:
        return f"{self._root}/copying/{place}"

    def copying_of(self, place: str, attachment_id: str) -> str:
        return f"{self.copying(place)}/{attachment_id}"

    def attachments(self, store_id: str) -> str:
        return f"{self._root}/attachments/{store_id}"

    def attachment(self, store_id: str, file_id: str) -> str:
        return f"{self.attachments(store_id)}/{file_id}"

    def detached(self, store_id: str) -> str:
        return f"{self._root}/detached/{store_id}"

    def detached_file(self, store_id: str, hour: int, file_id: str) -> str:
        return f"{self.detached(store_id)}/{hour:08d}/{file_id}"

    def outcomes(self, store_id: str) -> str:
        return f"{self._root}/outcomes/{store_id}"

    def outcome(self, store_id: str, attachment_id: str) -> str:
        return f"{self.outcomes(store_id)}/{attachment_id}"

    def readings(self, store_id: str) -> str:
        return f"{self._root}/readings/{store_id}"

    def reading(self, store_id: str, attachment_id: str) -> str:
        return f"{self.readings(store_id)}/{attachment_id}"

    def texts(self, store_id: str) -> str:
        return f"{self._root}/texts/{store_id}"

    def text(self, store_id: str, attachment_id: str) -> str:
        return f"{self.texts(store_id)}/{attachment_id}"

    def pictures(self, store_id: str) -> str:
        return f"{self._root}/pictures/{store_id}"

    def pictures_of(self, store_id: str, attachment_id: str) -> str:
        return f"{self.pictures(store_id)}/{attachment_id}"

    def picture(self, store_id: str, attachment_id: str, number: int) -> str:
        return f"{self.pictures_of(store_id, attachment_id)}/{number:06d}"

    def words(self, place: str) -> str:
        return f"{self._root}/words/{place}"

    def words_of(self, place: str, attachment_id: str) -> str:
        return f"{self.words(place)}/{attachment_id}"

    def outgrown(self, store_id: str) -> str:
        return f"{self._root}/outgrown/{store_id}"

    def packs(self, place: str) -> str:
        return f"{self._root}/packs/{place}"

    def packs_of(self, place: str, attachment_id: str) -> str:
        return f"{self.packs(place)}/{attachment_id}"

    def pack(self, place: str, attachment_id: str, file_id: str, first: int, count: int) -> str:
        return f"{self.packs_of(place, attachment_id)}/{file_id}/{first:08d}-{count:04d}"

    def bundles(self, place: str) -> str:
        return f"{self._root}/bundles/{place}"

    def bundle(self, place: str, kind: str, bundle_id: str, part: str) -> str:
        """Not in a folder of its own: those stay when they are empty, and bundles come and go every minute."""
        return f"{self.bundles(place)}/{kind}/{bundle_id}-{part}"

    def register(self, place: str, kind: str) -> str:
        return f"{self._root}/{kind}-register/{place}"

    def batches(self, store_id: str) -> str:
        return f"{self._root}/batches/{store_id}"

    def batch(self, store_id: str, batch_id: str) -> str:
        return f"{self.batches(store_id)}/{batch_id}"

    def results(self, batch_id: str) -> str:
        return f"{self._root}/results/{batch_id}"

    def result(self, batch_id: str, part_id: str) -> str:
        return f"{self.results(batch_id)}/{part_id}"


async def tenant_paths(keyring: Keyring, tenant: str) -> TenantPaths:
    """The paths of ``tenant``, under a name that only its naming key can make."""
    return TenantPaths(await keyring.name(tenant, "tenant"))
