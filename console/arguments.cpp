// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "console/command.hpp"

namespace sev::cli {

std::string_view name(Kind kind) {
    switch (kind) {
    case Kind::flag: return "flag";
    case Kind::text: return "text";
    case Kind::number: return "number";
    case Kind::real: return "real";
    case Kind::choice: return "choice";
    case Kind::input: return "input";
    case Kind::input_or_text: return "input_or_text";
    case Kind::labelled_input: return "labelled_input";
    case Kind::placed_input: return "placed_input";
    case Kind::output: return "output";
    case Kind::update: return "update";
    case Kind::output_prefix: return "output_prefix";
    case Kind::directory: return "directory";
    case Kind::path: return "path";
    case Kind::program: return "program";
    }
    throw Error{Fault::bug, "broken invariant: an argument kind without a name"};
}

const Command* Program::find(std::string_view wanted) const {
    const auto same = [&](const Command* command) {
        return std::ranges::equal(command->name, wanted, [](char ours, char theirs) { return ours == theirs || (ours == ' ' && theirs == '-'); });
    };
    const auto found = std::ranges::find_if(commands, same);
    return found == commands.end() ? nullptr : *found;
}

const std::vector<std::string>* Arguments::find(std::string_view name) const {
    const auto found = std::ranges::find_if(values_, [&](const auto& entry) { return entry.first == name; });
    return found == values_.end() || found->second.empty() ? nullptr : &found->second;
}

const Argument& Arguments::argument(std::string_view name) const {
    const auto found = std::ranges::find(command_->arguments, name, &Argument::name);
    require(found != command_->arguments.end(), "a command reads an argument that its table has not");
    return *found;
}

const std::string& Arguments::text(std::string_view name) const {
    const auto* values = find(argument(name).name);
    if (!values) throw Error{Fault::usage, fmt::format("{} is missing", name), fmt::format("see: {} {} --help", program_->name, command_->name)};
    return values->front();
}

std::optional<std::string> Arguments::text_if(std::string_view name) const {
    const auto* values = find(argument(name).name);
    return values ? std::optional{values->front()} : std::nullopt;
}

std::span<const std::string> Arguments::all(std::string_view name) const {
    const auto* values = find(argument(name).name);
    return values ? std::span<const std::string>{*values} : std::span<const std::string>{};
}

std::uint64_t Arguments::number(std::string_view name, std::uint64_t min, std::uint64_t max) const {
    return parse_number(text(name), name, min, max);
}

std::optional<std::uint64_t> Arguments::number_if(std::string_view name, std::uint64_t min, std::uint64_t max) const {
    return has(argument(name).name) ? std::optional{number(name, min, max)} : std::nullopt;
}

std::optional<double> Arguments::real_if(std::string_view name, double min, double max) const {
    if (!has(argument(name).name)) return std::nullopt;
    const std::string& given = text(name);
    double value = 0;
    const auto [end, problem] = std::from_chars(given.data(), given.data() + given.size(), value, std::chars_format::fixed);
    if (problem != std::errc{} || end != given.data() + given.size() || !(value >= min && value <= max))
        throw Error{Fault::usage, fmt::format("{} is {}, want a number from {} to {}", name, given.empty() ? "empty" : printable(given), min, max)};
    return value;
}

std::uint64_t parse_number(std::string_view text, std::string_view what, std::uint64_t min, std::uint64_t max) {
    const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    const std::string_view digits = hexadecimal ? text.substr(2) : text;
    std::uint64_t value = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
    if (problem != std::errc{} || end != digits.data() + digits.size() || value < min || value > max)
        throw Error{Fault::usage, fmt::format("{} is {}, want a decimal or 0x-hexadecimal number from {} to {}", what,
                                              text.empty() ? "empty" : printable(text), min, max)};
    return value;
}

} // namespace sev::cli
