// SPDX-License-Identifier: Apache-2.0
#include "base/service/message.hpp"

#include <array>

#include <fmt/format.h>

namespace sev::service {
namespace {

struct Phrase {
    unsigned status;
    std::string_view phrase;
};
/// Source: RFC 9110 section 15, RFC 6585.
constexpr std::array phrases{
    Phrase{200, "OK"},
    Phrase{201, "Created"},
    Phrase{202, "Accepted"},
    Phrase{204, "No Content"},
    Phrase{400, "Bad Request"},
    Phrase{403, "Forbidden"},
    Phrase{404, "Not Found"},
    Phrase{405, "Method Not Allowed"},
    Phrase{408, "Request Timeout"},
    Phrase{409, "Conflict"},
    Phrase{410, "Gone"},
    Phrase{411, "Length Required"},
    Phrase{413, "Content Too Large"},
    Phrase{415, "Unsupported Media Type"},
    Phrase{417, "Expectation Failed"},
    Phrase{422, "Unprocessable Content"},
    Phrase{429, "Too Many Requests"},
    Phrase{431, "Request Header Fields Too Large"},
    Phrase{500, "Internal Server Error"},
    Phrase{501, "Not Implemented"},
    Phrase{502, "Bad Gateway"},
    Phrase{503, "Service Unavailable"},
    Phrase{504, "Gateway Timeout"},
    Phrase{505, "HTTP Version Not Supported"},
    Phrase{507, "Insufficient Storage"},
};

} // namespace

std::string reason_phrase(unsigned status) {
    for (const Phrase& each : phrases)
        if (each.status == status) return std::string{each.phrase};
    return fmt::format("Status {}", status);
}

Response json_response(const json::Value& value, unsigned status) {
    return {.status = status, .content_type = "application/json", .body = value.dump() + "\n", .headers = {}, .events = nullptr};
}

Response text_response(std::string text, std::string content_type) {
    return {.status = 200, .content_type = std::move(content_type), .body = std::move(text), .headers = {}, .events = nullptr};
}

Response problem(unsigned status, std::string_view detail, std::string_view hint) {
    json::Value value{{"type", "about:blank"}, {"title", reason_phrase(status)}, {"status", status}, {"detail", printable(detail, 4096)}};
    if (!hint.empty()) value["hint"] = printable(hint, 4096);
    return {.status = status, .content_type = "application/problem+json", .body = value.dump() + "\n", .headers = {}, .events = nullptr};
}

Response problem(const Error& error) {
    switch (error.fault()) {
    case Fault::usage:
    case Fault::malformed: return problem(400, error.what(), error.hint());
    case Fault::firmware: return problem(502, error.what(), error.hint());
    case Fault::network: return problem(504, error.what(), error.hint());
    case Fault::system: return problem(500, error.what(), error.hint());
    case Fault::bug: break;
    }
    return problem(500, "an internal error; the log says more");
}

} // namespace sev::service
