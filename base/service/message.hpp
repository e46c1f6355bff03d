// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/service/events.hpp"
#include "base/service/peer.hpp"

namespace sev::service {

/// One HTTP request, whole, as a handler sees it. All but `peer` was written by the other end.
struct Request {
    std::string method; // "GET"; "HEAD" is given to handlers of GET, and the body of their answer left out
    std::string path;                                                // "/v1/launches/7": checked, no dot segments, no percent signs
    std::map<std::string, std::string, std::less<>> query;           // decoded; a name twice is refused before
    std::map<std::string, std::string, std::less<>> parameters;      // what the route's {names} matched
    std::string content_type;                                        // media type in lower case, without parameters; empty when there is none
    std::string last_event_id;                                       // header of that name; empty when there is none
    std::string body;
    Peer peer;
};

/// One answer. Either `body`, or `events`: a live stream of server-sent events that lasts until a side closes.
struct Response {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers; // further ones: "Location", "Retry-After"
    std::shared_ptr<Subscription> events;
};

/// JSON with a final newline.
Response json_response(const json::Value& value, unsigned status = 200);
Response text_response(std::string text, std::string content_type = "text/plain; charset=utf-8");
/// RFC 9457, application/problem+json: {"type": "about:blank", "title": phrase of the status, "status", "detail", "hint" where there is one}.
Response problem(unsigned status, std::string_view detail, std::string_view hint = {});
/// How an Error looks from outside: usage and malformed are 400, firmware 502, network 504, system 500; a bug is 500 and says no more than that.
Response problem(const Error& error);
/// "Not Found"; "Status 499" for one that has no name here.
std::string reason_phrase(unsigned status);

} // namespace sev::service
