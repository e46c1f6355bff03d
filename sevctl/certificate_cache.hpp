// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/endorsement/store.hpp"
#include "console/command.hpp"

namespace sev::cli {

inline constexpr Argument endorsement_cache_option{
    .name = "--cache",
    .kind = Kind::directory,
    .metavar = "DIR",
    .help = "Where sev-relay keeps what it fetched. Default: /var/cache/xen-sev for root, else ~/.cache/xen-sev."};

/// The store that --cache names, or the default one, where sev-relay keeps what it fetches.
endorsement::Store endorsement_store(const Arguments& given);

/// --id as a chip id: 128 hex digits. Throws Error{Fault::usage}.
psp::ChipId chip_id_of(std::string_view text, std::string_view what);

} // namespace sev::cli
