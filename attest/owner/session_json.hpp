// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/owner/store.hpp"
#include "base/json.hpp"

namespace sev::attest::owner {

/// A session as the lists and the HTTP interface show it; docs/schemas/sev-owner-sessions-list.schema.json. No key is in it.
json::Value session_json(const SessionSummary& session);

} // namespace sev::attest::owner
