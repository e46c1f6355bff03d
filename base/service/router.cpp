// SPDX-License-Identifier: Apache-2.0
#include "base/service/router.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace sev::service {
namespace {

bool path_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

/// Segments of a path that begins with "/"; nullopt for anything that could be read in two ways.
std::optional<std::vector<std::string>> split(std::string_view path) {
    if (path == "/") return std::vector<std::string>{};
    if (!path.starts_with('/')) return std::nullopt;
    std::vector<std::string> out;
    for (std::size_t at = 0; at < path.size();) {
        const std::size_t end = std::min(path.find('/', at + 1), path.size());
        const std::string_view segment = path.substr(at + 1, end - at - 1);
        if (segment.empty() || segment == "." || segment == ".." || !std::ranges::all_of(segment, path_character)) return std::nullopt;
        out.emplace_back(segment);
        at = end;
    }
    return out;
}

std::optional<std::string> percent_decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+') {
            out += ' ';
        } else if (text[i] != '%') {
            out += text[i];
        } else {
            const auto byte = try_unhex(text.substr(i + 1, 2));
            if (!byte || byte->size() != 1 || (*byte)[0] < 0x20 || (*byte)[0] == 0x7F) return std::nullopt;
            out += static_cast<char>((*byte)[0]);
            i += 2;
        }
    }
    return out;
}

std::optional<std::map<std::string, std::string, std::less<>>> parse_query(std::string_view text) {
    std::map<std::string, std::string, std::less<>> out;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('&'), text.size());
        const std::string_view pair = text.substr(0, end);
        const std::size_t equals = std::min(pair.find('='), pair.size());
        auto key = percent_decoded(pair.substr(0, equals)),
             value = percent_decoded(equals < pair.size() ? pair.substr(equals + 1) : std::string_view{});
        if (!key || !value || key->empty() || !out.emplace(*std::move(key), *std::move(value)).second) return std::nullopt;
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

bool is_parameter(std::string_view segment) { return segment.starts_with('{') && segment.ends_with('}'); }

/// The segments of a route's own path, in which names in braces stand.
std::vector<std::string> pattern(const std::string& path) {
    std::string plain = path;
    std::erase_if(plain, [](char c) { return c == '{' || c == '}'; });
    require(split(plain).has_value(), "a route's path can be asked for");
    std::vector<std::string> out;
    for (std::size_t at = 0; path != "/" && at < path.size();) {
        const std::size_t end = std::min(path.find('/', at + 1), path.size());
        out.push_back(path.substr(at + 1, end - at - 1));
        at = end;
    }
    return out;
}

bool fits(const std::vector<std::string>& wanted, const std::vector<std::string>& found) {
    return wanted.size() == found.size() &&
           std::equal(wanted.begin(), wanted.end(), found.begin(),
                      [](const std::string& want, const std::string& got) { return is_parameter(want) || want == got; });
}

} // namespace

Router::Router(std::vector<Route> routes) : routes_{std::move(routes)} {
    for (const Route& route : routes_) {
        require(static_cast<bool>(route.handle), "a route has a handler");
        require(std::ranges::count_if(routes_, [&](const Route& other) { return other.method == route.method && other.path == route.path; }) == 1,
                "a route is there once");
        segments_.push_back(pattern(route.path));
    }
}

std::variant<Match, Response> Router::find(std::string_view method, std::string_view target) const {
    if (target.size() > target_limit_bytes)
        return problem(400, fmt::format("request target of {} bytes, want at most {}", target.size(), target_limit_bytes));
    const std::size_t question = std::min(target.find('?'), target.size());
    const std::string_view path = target.substr(0, question);
    const auto segments = split(path);
    if (!segments)
        return problem(400, fmt::format("path \"{}\" is not one that can be asked for here", printable(path)),
                       "paths are of letters, digits and -._~ between single slashes");
    auto query = parse_query(target.substr(std::min(question + 1, target.size())));
    if (!query) return problem(400, "the query is not of the form name=value, each name once");

    std::string allowed;
    for (std::size_t i = 0; i < routes_.size(); ++i) {
        if (!fits(segments_[i], *segments)) continue;
        if (routes_[i].method != method && !(method == "HEAD" && routes_[i].method == "GET")) {
            allowed += (allowed.empty() ? "" : ", ") + routes_[i].method;
            continue;
        }
        Match match{.route = &routes_[i], .path = std::string{path}, .parameters = {}, .query = *std::move(query)};
        for (std::size_t k = 0; k < segments->size(); ++k)
            if (is_parameter(segments_[i][k])) match.parameters.emplace(segments_[i][k].substr(1, segments_[i][k].size() - 2), (*segments)[k]);
        return match;
    }
    if (allowed.empty()) return problem(404, fmt::format("there is no {}", printable(path)));
    Response refusal = problem(405, fmt::format("{} is not possible on {}", printable(method, 32), printable(path)), "possible: " + allowed);
    refusal.headers.emplace_back("Allow", allowed);
    return refusal;
}

} // namespace sev::service
