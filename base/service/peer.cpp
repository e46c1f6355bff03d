// SPDX-License-Identifier: Apache-2.0
#include "base/service/peer.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace sev::service {

bool Peer::Process::is_in(gid_t group) const { return gid == group || std::ranges::find(groups, group) != groups.end(); }

std::string Peer::channel() const {
    if (const Process* p = process()) return fmt::format("uid:{}", p->uid);
    if (const Certificate* c = certificate()) return "cert:" + hex(c->fingerprint);
    return "none";
}

} // namespace sev::service
