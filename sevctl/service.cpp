// SPDX-License-Identifier: Apache-2.0
#include "sevctl/service.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::cli {
namespace {

constexpr const char* default_socket = "/run/xen-sev/sevd.sock";
constexpr std::size_t answer_limit_bytes = 8 << 20;
constexpr std::chrono::milliseconds deadline{30'000};

} // namespace

Service Service::daemon(const Arguments& given) { return {"sevd", given.text_if("--socket").value_or(default_socket)}; }

void Service::expect(const client::Answer& answer, std::string_view type) const {
    if (answer.status < 200 || answer.status > 299) {
        const client::Problem problem = client::problem_of(answer);
        throw Error{Fault::network, fmt::format("{}: {}", name_, problem.detail), problem.hint};
    }
    if (answer.content_type != type && !answer.body.empty())
        throw Error{Fault::network, fmt::format("{}: answered with type {}, want {}", name_, printable(answer.content_type), type)};
}

json::Value Service::read(const client::Answer& answer) const {
    expect(answer, "application/json");
    if (answer.body.empty()) return json::Value::object();
    return json::parse(answer.body, name_ + "'s answer", {.bytes = answer_limit_bytes, .depth = 24});
}

std::optional<std::string> Service::get_text(const std::string& target, std::string_view type, std::size_t limit_bytes) const {
    auto answer = client_.ask({.target = target}, limit_bytes, deadline);
    if (answer.status == 404) return std::nullopt;
    expect(answer, type);
    return std::move(answer.body);
}

std::optional<json::Value> Service::get(const std::string& target) const {
    const auto answer = client_.ask({.target = target}, answer_limit_bytes, deadline);
    if (answer.status == 404) return std::nullopt;
    return read(answer);
}

json::Value Service::post(const std::string& target, const json::Value& body) const {
    return read(
        client_.ask({.method = "POST", .target = target, .content_type = "application/json", .body = body.dump()}, answer_limit_bytes, deadline));
}

std::optional<json::Value> Service::remove(const std::string& target) const {
    const auto answer = client_.ask({.method = "DELETE", .target = target}, answer_limit_bytes, deadline);
    if (answer.status == 404) return std::nullopt;
    return read(answer);
}

std::string wrapped(std::string_view first_indent, std::string_view text, std::size_t indent, std::size_t columns) {
    const std::string clean = printable(text, 8192);
    std::string_view left = clean;
    std::string out, line{first_indent};
    bool fresh = true;
    const auto end_line = [&] {
        out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        line.assign(indent, ' ');
        fresh = true;
    };
    while (!left.empty()) {
        std::string_view word = left.substr(0, left.find(' '));
        left.remove_prefix(std::min(word.size() + 1, left.size()));
        if (!fresh && line.size() + 1 + word.size() > columns) end_line();
        if (!fresh) line += ' ';
        // a word longer than a line has no space to be broken at
        while (word.size() > columns - line.size() && columns > line.size()) {
            const std::size_t fits = columns - line.size();
            line += word.substr(0, fits);
            word.remove_prefix(fits);
            end_line();
        }
        line += word;
        fresh = false;
    }
    end_line();
    return out;
}

} // namespace sev::cli
