// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/session_json.hpp"

namespace sev::attest::owner {

json::Value session_json(const SessionSummary& session) {
    json::Value out{{"id", hex(session.id)},
                    {"state", name(session.state)},
                    {"launch_name", session.launch_name},
                    {"policy", session.policy_name},
                    {"channel", session.channel},
                    {"created_at", text(session.created_at)},
                    {"expires_at", text(session.expires_at)}};
    if (session.ended_at) out["ended_at"] = text(*session.ended_at);
    out["packets"] = session.packets;
    return out;
}

} // namespace sev::attest::owner
