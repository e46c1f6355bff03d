// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/xl_language.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace sev::measure {
namespace {

constexpr std::size_t depth_limit = 16;

/// xl's grammar: statements end at a line's end or a semicolon; lists may be nested and go over lines; '#' begins a comment.
class Parser {
public:
    Parser(std::string_view text, std::string_view what) : text_{text}, what_{what} {}

    XlSettings run() {
        while (skip(true), at_ < text_.size()) statement();
        return std::move(settings_);
    }

private:
    [[noreturn]] void refuse(unsigned line, std::string_view problem) const { refuse_xl_line(what_, line, problem); }
    char now() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool take(char wanted) {
        if (now() != wanted || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }
    /// Blanks and comments, and on request line ends and semicolons.
    void skip(bool lines, bool semicolons = true) {
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
                if (!lines || at_ == text_.size()) return;
                ++line_;
            } else if (c == '\n' && lines) {
                ++line_;
            } else if (c != ' ' && c != '\t' && !(c == ';' && lines && semicolons)) {
                return;
            }
        }
    }
    template <class Accept>
    std::string_view word(Accept&& accept) {
        const std::size_t start = at_;
        while (at_ < text_.size() && accept(text_[at_])) ++at_;
        return text_.substr(start, at_ - start);
    }
    static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
    static bool is_digit(char c) { return c >= '0' && c <= '9'; }

    void statement() {
        const unsigned line = line_;
        if (!is_lower(now())) refuse(line, fmt::format("{}, want the name of a setting", found()));
        const std::string name{word([](char c) { return is_lower(c) || is_digit(c) || c == '.' || c == '_'; })};
        skip(false);
        const bool adds = take('+');
        if (!take('=')) refuse(line_, fmt::format("{} after {}, want =", found(), name));
        skip(false);
        XlValue value = this->value(0);
        skip(false);
        if (at_ < text_.size() && now() != '\n' && now() != ';' && now() != '#')
            refuse(line_, fmt::format("{} after the value of {}, want the line's end", found(), name));
        store(name, std::move(value), adds, line);
    }
    void store(const std::string& name, XlValue value, bool adds, unsigned line) {
        const auto [at, is_new] = settings_.try_emplace(name, value);
        if (is_new) return;
        if (!adds) refuse(line, fmt::format("{} is set a second time, after line {}", name, at->second.line));
        if (at->second.is_list() != value.is_list()) refuse(line, fmt::format("{} adds a list to a text or the other way round", name));
        if (value.is_list()) {
            auto& list = std::get<std::vector<XlValue>>(at->second.value);
            list.insert(list.end(), value.list().begin(), value.list().end());
        } else {
            std::get<std::string>(at->second.value) += value.text();
        }
    }
    std::string found() const {
        return at_ >= text_.size() ? "the file's end" : now() == '\n' ? "the line's end" : fmt::format("'{}'", printable(text_.substr(at_, 1)));
    }

    XlValue value(std::size_t depth) {
        if (depth > depth_limit) refuse(line_, fmt::format("lists are more than {} deep", depth_limit));
        const unsigned line = line_;
        if (now() == '\'' || now() == '"') return {.line = line, .value = quoted()};
        if (is_digit(now()))
            return {.line = line, .value = std::string{word([](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || c == 'x'; })}};
        if (!take('[')) refuse(line, fmt::format("{}, want a text in quotes, a number or a list", found()));
        std::vector<XlValue> out;
        for (skip(true, false); !take(']'); skip(true, false)) {
            out.push_back(value(depth + 1));
            skip(true, false);
            if (take(',')) continue;
            if (now() != ']') refuse(line_, fmt::format("{} in the list from line {}, want , or ]", found(), line));
        }
        return {.line = line, .value = std::move(out)};
    }
    std::string quoted() {
        const char quote = text_[at_++];
        std::string out;
        for (;;) {
            if (at_ >= text_.size() || now() == '\n') refuse(line_, "a text has no closing quote on its line");
            const char c = text_[at_++];
            if (c == quote) return out;
            if (c == '\0') refuse(line_, "a NUL in a text");
            if (c != '\\') {
                out += c;
                continue;
            }
            static constexpr std::string_view escapes = "\"'\\abfnrtv", meanings = "\"'\\\a\b\f\n\r\t\v";
            const auto which = at_ < text_.size() ? escapes.find(text_[at_]) : std::string_view::npos;
            if (which == std::string_view::npos)
                refuse(line_, "a backslash before a character other than \" ' \\ a b f n r t v: releases of xl read it differently");
            out += meanings[which];
            ++at_;
        }
    }

    std::string_view text_, what_;
    std::size_t at_ = 0;
    unsigned line_ = 1;
    XlSettings settings_;
};

} // namespace

XlSettings parse_xl_settings(std::string_view text, std::string_view what) { return Parser{text, what}.run(); }

void refuse_xl_line(std::string_view what, unsigned line, std::string_view problem) {
    throw Error{Fault::malformed, fmt::format("{}: line {}: {}", what, line, problem)};
}

} // namespace sev::measure
