// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

/// LABEL:PRODUCT:FINGERPRINT; the label may hold colons, the other two cannot.
psp::Root parse_root(std::string_view text, const std::string& what) {
    const auto last = text.rfind(':');
    const auto middle = last == std::string_view::npos || last == 0 ? std::string_view::npos : text.rfind(':', last - 1);
    if (middle == std::string_view::npos || middle == 0)
        throw Error{Fault::usage,
                    fmt::format("{}: {} is no root, want LABEL:PRODUCT:FINGERPRINT", what, text.empty() ? "an empty text" : printable(text))};
    const auto product_name = text.substr(middle + 1, last - middle - 1);
    const auto product = psp::product_named(product_name);
    if (!product)
        throw Error{Fault::usage, fmt::format("{}: product is {}, want naples, rome, milan, genoa or turin", what,
                                              product_name.empty() ? "empty" : printable(product_name))};
    return {.label = printable(text.substr(0, middle)), .product = *product, .fingerprint = unhex<32>(text.substr(last + 1), what + ": fingerprint")};
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r";
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

void parse_root_file(std::string_view text, const std::string& file, std::vector<psp::Root>& roots) {
    const std::size_t before = roots.size();
    for (std::size_t line = 1; !text.empty(); ++line) {
        const auto end = std::min(text.find('\n'), text.size());
        const std::string_view entry = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (entry.empty() || entry.starts_with('#')) continue;
        roots.push_back(parse_root(entry, fmt::format("{}: line {}", file, line)));
    }
    if (roots.size() == before)
        throw Error{Fault::malformed, fmt::format("{}: no root in it, want at least one line LABEL:PRODUCT:FINGERPRINT", file)};
}

void add(std::vector<psp::Root>& roots, const Arguments& arguments, const Argument& option) {
    for (const std::string& given : arguments.all(option.name)) {
        // a root itself ends with 64 hex digits after a colon, as no sensible path does
        const auto colon = given.rfind(':');
        const bool inline_root = colon != std::string::npos && given.find('/', colon) == std::string::npos && given.find(':') != colon;
        if (inline_root)
            roots.push_back(parse_root(given, std::string{option.name}));
        else
            parse_root_file(read_text(given, static_cast<std::size_t>(option.limit_bytes)), shown(given), roots);
    }
}

} // namespace

std::vector<psp::Root> trusted_roots(const Arguments& arguments) {
    std::vector<psp::Root> roots = psp::amd_roots();
    add(roots, arguments, root_option);
    if (std::ranges::find(arguments.command().arguments, pin_option.name, &Argument::name) != arguments.command().arguments.end()) {
        std::vector<psp::Root> pins;
        add(pins, arguments, pin_option);
        for (psp::Root& pin : pins) {
            pin.pinned_cek = true;
            roots.push_back(std::move(pin));
        }
    }
    return roots;
}

} // namespace sev::cli
