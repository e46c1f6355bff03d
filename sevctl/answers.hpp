// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

#include "base/json.hpp"

/// What sevd and sev-owner answer, held against docs/sevd.openapi.json and docs/sev-owner.openapi.json before a command reads it. Each function
/// returns its argument, or throws Error{Fault::malformed} that names the answer, the field, got and want: for a key that is missing, of another
/// type, out of range, or unknown. What comes later may so rely on every field.
namespace sev::cli {

/// One launch of sevd, whole or as its list shows it.
const json::Value& checked_launch(const json::Value& launch, std::string_view what = "sevd's launch");
/// One of its events of type "launch".
const json::Value& checked_event(const json::Value& event);

const json::Value& checked_policies(const json::Value& answer);
const json::Value& checked_audit_head(const json::Value& answer);
const json::Value& checked_sessions(const json::Value& answer);
/// GET /v1/sessions/{id}.
const json::Value& checked_session(const json::Value& answer);

} // namespace sev::cli
