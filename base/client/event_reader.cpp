// SPDX-License-Identifier: Apache-2.0
#include <charconv>

#include <fmt/format.h>

#include "base/client/unix_client.hpp"
#include "base/error.hpp"

namespace sev::client {

std::vector<Event> EventReader::feed(std::string_view piece) {
    std::vector<Event> out;
    while (!piece.empty()) {
        const std::size_t end = piece.find('\n');
        if (partial_.size() + std::min(end, piece.size()) > line_limit_bytes)
            throw Error{Fault::malformed, fmt::format("event stream: a line has more than {} bytes", line_limit_bytes)};
        partial_ += piece.substr(0, end);
        if (end == std::string_view::npos) break;
        piece.remove_prefix(end + 1);
        if (partial_.ends_with('\r')) partial_.pop_back();
        line(partial_, out);
        partial_.clear();
    }
    return out;
}

void EventReader::line(std::string_view text, std::vector<Event>& out) {
    if (text.empty()) {
        if (has_data_) out.push_back(current_);
        current_ = {};
        has_data_ = false;
        return;
    }
    const std::size_t colon = text.find(':');
    const std::string_view field = text.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "data") {
        if (current_.data.size() + value.size() > line_limit_bytes)
            throw Error{Fault::malformed, fmt::format("event stream: an event has more than {} bytes", line_limit_bytes)};
        if (has_data_) current_.data += '\n';
        current_.data += value;
        has_data_ = true;
    } else if (field == "event") {
        current_.type = value;
    } else if (field == "id") {
        // one that is no number stays 0: the standard lets it be any text, our services count
        std::from_chars(value.data(), value.data() + value.size(), current_.id);
    }
}

} // namespace sev::client
