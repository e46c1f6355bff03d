// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "psp/certificate.hpp"
#include "psp/check.hpp"

namespace sev::psp {

/// The certificates of one platform, as far as they are at hand. A missing one is a failed check, not an error.
struct Chain {
    std::optional<SevCertificate> pdh, pek, oca, cek;
    std::optional<CaCertificate> ask, ark;
    friend bool operator==(const Chain&, const Chain&) = default;

    /// Binary PDH‖PEK‖OCA‖CEK‖ASK‖ARK as far as present, as `sevctl export [--full]` writes it. Throws Error{Fault::bug} when a middle one is
    /// missing.
    Bytes serialize() const;
};

/// Parses binary chains by their size (sevctl's files): PDH‖PEK‖OCA‖CEK (8336), the same with ASK‖ARK (10000, 9744 with the truncated Naples
/// ARK, 11536), PEK‖OCA‖CEK (6252), one certificate (2084, by usage), ASK‖ARK (1664, 1408, 3200). Each certificate is held against the usage
/// its place demands. Throws Error{Fault::malformed} with certificate, offset and field.
Chain parse_chain(ByteView bytes, std::string_view what);

/// One root of trust: an ARK named by the SHA-256 fingerprint of its signed bytes (CaCertificate::fingerprint), or, with `pinned_cek`, one chip's CEK
/// named likewise (SevCertificate::fingerprint) by an owner who knows the chip by other means: AMD may not have endorsed it at all.
struct Root {
    std::string label;   // "AMD ARK Naples", or what the caller calls it
    Product product;
    Digest fingerprint;
    bool amd = false;    // one of AMD's, pinned in the source
    bool pinned_cek = false; // the fingerprint is a CEK's
    friend bool operator==(const Root&, const Root&) = default;
};
/// AMD's ARK of Naples, Rome, Milan, Genoa and Turin.
const std::vector<Root>& amd_roots();

/// KEY_ID of every emulated ARK, so that an emulated chain shows what it is: ASCII "xen-sev-emulated".
inline constexpr ByteArray<16> emulated_ark_key_id{'x', 'e', 'n', '-', 's', 'e', 'v', '-', 'e', 'm', 'u', 'l', 'a', 't', 'e', 'd'};
/// KEY_ID of every emulated ASK: ASCII "xen-sev-emul-ask".
inline constexpr ByteArray<16> emulated_ask_key_id{'x', 'e', 'n', '-', 's', 'e', 'v', '-', 'e', 'm', 'u', 'l', '-', 'a', 's', 'k'};

struct ChainVerdict {
    std::vector<Check> checks; // in order, root first; every check that could be made, not only up to the first failure
    std::optional<Root> root;  // the root that the ARK, or the CEK under a pin, matched; set only when it matched
    bool emulated = false;     // the ARK bears the emulated KEY_ID
    bool trusted() const { return root.has_value() && all_passed(checks); }
};

/// Verifies ARK→ASK→CEK→PEK(+OCA)→PDH to `roots`. Deny by default: an empty root set, an ARK outside it, a missing certificate, a wrong
/// usage, algorithm, key id or certifying id, a point off the curve, a missing, surplus or invalid signature each fail one named check:
///
/// `chain.roots`                  the root set is not empty
/// `chain.<link>.present`         ark, ask, cek, oca, pek, pdh: the certificate is there
/// `chain.ark.root`               the ARK's fingerprint is a pinned root's
/// `chain.<link>.usage`           KEY_USAGE or PUBKEY_USAGE is the link's
/// `chain.<link>.key_id`          ark, ask under one of AMD's roots: KEY_ID is that product's
/// `chain.<link>.certifying_id`   ark, ask: CERTIFYING_ID is the ARK's KEY_ID
/// `chain.<link>.rsa_key`         ark, ask, RSA oca: 2048 or 4096 bits in full, odd, exponent 65537
/// `chain.<link>.algorithm`       cek, pek: ECDSA SHA-256; oca: ECDSA or RSA-PSS; pdh: ECDH SHA-256
/// `chain.<link>.curve`           cek, oca, pek, pdh: the public point is on P-384
/// `chain.<link>.slots`           cek, oca, pek, pdh: no surplus signature; an empty slot is really empty
/// `chain.<link>.signature_by_<p>` ark and ask by ark, cek by ask, oca by oca, pek by oca and by cek (in either slot), pdh by pek
///
/// `chain.cek.pinned`             in place of every check of ark, ask and signature_by_ask, when the chain has neither ARK nor ASK and its CEK is a
///                                pinned root: such a CEK stands without any signature. A chain that brings an ARK or an ASK is never judged by a pin
///
/// A link whose parent is missing or of another algorithm class fails its signature check. API versions are not judged: that is policy. Every
/// bit of every certificate is covered by a signature or by one of the checks. Never throws for what the chain contains.
/// Source: SEV API (AMD 55766) chapters 2 and appendices B, C.
ChainVerdict verify_chain(const Chain& chain, const std::vector<Root>& roots);

/// Only the part a platform's owner made: OCA self-signature, PEK signed by OCA, PDH by PEK, with the same check names; a signature by the CEK
/// may be there and is not judged. For `sevctl verify` without a CA.
std::vector<Check> verify_platform_part(const Chain& chain);

} // namespace sev::psp
