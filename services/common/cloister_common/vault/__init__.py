"""The vault: everything Cloister stores is sealed here, and only here.

    root key          `RootKeyProvider`: a file today, Vault Transit or a cloud KMS behind the same protocol
     └ tenant key     `Keyring`: wrapped by the root, one per tenant and epoch
        ├ naming key  HMAC for every name a store can see
        └ data key    one per conversation, response, file, vector store: wrapped by the tenant key
           └ sub-keys by HKDF label (items, stream, chain, segments, passages, vectors, rotation)
              └ record key, fresh for every record: `seal` and `open_record`

It fails closed. No key: no start. An unknown key, a missing header, a wrong context, an edited byte: `VaultError`,
one error for all of them, and never plaintext.
"""

from cloister_common.vault.data_key import DataKey
from cloister_common.vault.encoding import encode_context
from cloister_common.vault.keyring import Keyring, NewKey
from cloister_common.vault.record import RECORD_OVERHEAD_BYTES, VaultError, open_record, seal
from cloister_common.vault.root import FileRootKey, RootKeyProvider
from cloister_common.vault.segments import SEGMENT_BYTES, open_segment, seal_segment
from cloister_common.vault.store import KeyStore, MemoryKeyStore

__all__ = [
    "RECORD_OVERHEAD_BYTES",
    "SEGMENT_BYTES",
    "DataKey",
    "FileRootKey",
    "KeyStore",
    "Keyring",
    "MemoryKeyStore",
    "NewKey",
    "RootKeyProvider",
    "VaultError",
    "encode_context",
    "open_record",
    "open_segment",
    "seal",
    "seal_segment",
]
