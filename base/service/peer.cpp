// SPDX-License-Identifier: Apache-2.0
#include "base/service/peer.hpp"

#include <fmt/format.h>

namespace sev::service {

std::string Peer::channel() const {
    if (const Process* p = process()) return fmt::format("uid:{}", p->uid);
    if (const Certificate* c = certificate()) return "cert:" + hex(c->fingerprint);
    return "none";
}

} // namespace sev::service
