// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/certificate.hpp"
#include "console/command.hpp"

namespace sev::cli {

inline constexpr Argument form_option{.name = "--format",
                                      .kind = Kind::choice,
                                      .metavar = "FORM",
                                      .help = "binary (default), hex, pem (base64 between lines, readable by no X.509 tool), or json.",
                                      .choices = "binary|hex|pem|json"};

/// One certificate in the form that was asked for; text ends with a newline.
Bytes in_form(const psp::SevCertificate& certificate, std::string_view form);
Bytes in_form(const psp::CaCertificate& certificate, std::string_view form);

/// Every field of a certificate by name, and the whole as base64.
json::Value certificate_as_json(const psp::SevCertificate& certificate);
json::Value certificate_as_json(const psp::CaCertificate& certificate);

} // namespace sev::cli
