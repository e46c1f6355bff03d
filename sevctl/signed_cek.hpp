// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/chain.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {

inline constexpr Argument cek_option{.name = "--cek",
                                     .kind = Kind::input,
                                     .metavar = "FILE",
                                     .help = "The CEK certificate signed by AMD's ASK, as the key server gives it.",
                                     .limit_bytes = 2084};
inline constexpr Argument ca_option{.name = "--ca",
                                    .kind = Kind::input,
                                    .metavar = "FILE",
                                    .help = "ASK and ARK, as AMD publishes them (ask_ark_PRODUCT.cert).",
                                    .limit_bytes = 16 << 10};
inline constexpr Argument cache_option{.name = "--cache",
                                       .kind = Kind::directory,
                                       .metavar = "DIR",
                                       .help = "Where sev-relay keeps what it fetched. Default: /var/cache/xen-sev for root, else ~/.cache/xen-sev."};

/// Where virtee's tools look for `export --full`, in their order: $SEV_CHAIN, then amd-sev/chain under $XDG_CACHE_HOME or $HOME/.cache, then under
/// /var/cache.
std::vector<Path> cached_chain_files();

/// AMD's endorsement of a platform's CEK.
struct SignedCek {
    psp::SevCertificate cek;
    std::optional<psp::CaCertificate> ask, ark;
    std::string source; // a path
};

/// What --cek and --ca name, read and checked for what it is, before any device is touched. Throws Error{Fault::malformed} that names the file.
struct NamedEndorsement {
    std::optional<psp::SevCertificate> cek;
    std::optional<psp::CaCertificate> ask, ark;
};
NamedEndorsement named_endorsement(const Arguments& given);

/// The signed form of `cek`, which the firmware gives without a signature: what was named, else from sev-relay's cache, else from the first cached
/// chain that there is. Only a certificate of the very same key counts. nullopt with a reason when there is none; Error{Fault::malformed} when the
/// one that was named is another chip's. Whether the signatures are good is for `verify_chain`; what the cache holds has been verified to `roots`.
struct SignedCekSearch {
    std::optional<SignedCek> found;
    std::string reason;
};
SignedCekSearch find_signed_cek(const Arguments& given, const NamedEndorsement& named, const psp::SevCertificate& cek,
                                const std::vector<psp::Root>& roots);

/// What to do when there is none.
std::string how_to_get_cek(const std::vector<psp::ChipId>& ids, const psp::SevCertificate& cek);

} // namespace sev::cli
