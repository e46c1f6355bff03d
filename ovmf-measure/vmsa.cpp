// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/vmsa.hpp"

#include <algorithm>
#include <array>
#include <bitset>

#include "base/error.hpp"

namespace sev::measure {

namespace {

std::uint64_t read_number(const Vmsa& page, const VmsaField& field) {
    std::uint64_t value = 0;
    for (std::size_t i = field.size_bytes; i-- > 0;) value = value << 8 | page[field.offset + i];
    return value;
}

void write_number(Vmsa& page, const VmsaField& field, std::uint64_t value) {
    if (field.size_bytes < 8 && value >> (8 * field.size_bytes) != 0) {
        throw Error{Fault::usage, fmt::format("VMSA: {} is {:#x}, want a number of {} bytes", field.name, value, field.size_bytes)};
    }
    for (std::size_t i = 0; i < field.size_bytes; ++i) page[field.offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

const VmsaField& number_field(std::string_view name) {
    const VmsaField& field = vmsa_field(name);
    if (field.is_array) {
        throw Error{Fault::usage, fmt::format("VMSA: {} is an array of {} bytes, want a field that is a number", name, field.size_bytes)};
    }
    return field;
}

ByteView bytes_of(const Vmsa& page, const VmsaField& field) { return ByteView{page}.subspan(field.offset, field.size_bytes); }

std::string text_of(const Vmsa& page, const VmsaField& field) {
    return field.is_array ? hex(bytes_of(page, field)) : fmt::format("{:#x}", read_number(page, field));
}

/// Which bytes belong to a field of `vmsa_fields`.
const std::bitset<sizeof(Vmsa)>& known_bytes() {
    static const std::bitset<sizeof(Vmsa)> known = [] {
        std::bitset<sizeof(Vmsa)> bits;
        for (const VmsaField& field : vmsa_fields()) {
            for (std::size_t i = 0; i < field.size_bytes; ++i) bits.set(field.offset + i);
        }
        return bits;
    }();
    return known;
}

} // namespace

Vmsa parse_vmsa(ByteView bytes, std::string_view what) {
    return wire::bytes<0, sizeof(Vmsa)>(wire::exactly<sizeof(Vmsa)>(bytes, what));
}

std::uint64_t get(const Vmsa& page, std::string_view field) { return read_number(page, number_field(field)); }

void set(Vmsa& page, std::string_view field, std::uint64_t value) { write_number(page, number_field(field), value); }

std::vector<VmsaValue> describe(const Vmsa& page, std::span<const VmsaField> fields) {
    std::vector<VmsaValue> values;
    values.reserve(fields.size());
    for (const VmsaField& field : fields) {
        const ByteView bytes = bytes_of(page, field);
        values.push_back({.field = field,
                          .number = field.is_array ? 0 : read_number(page, field),
                          .bytes = {bytes.begin(), bytes.end()},
                          .text = text_of(page, field)});
    }
    return values;
}

std::vector<StrayByte> stray_bytes(const Vmsa& page) {
    std::vector<StrayByte> stray;
    for (std::size_t at = 0; at < page.size(); ++at) {
        if (page[at] != 0 && !known_bytes()[at]) stray.push_back({.offset = at, .value = page[at]});
    }
    return stray;
}

std::vector<VmsaDifference> diff(const Vmsa& left, const Vmsa& right) {
    std::vector<VmsaDifference> differences;
    auto field = vmsa_fields().begin();
    for (std::size_t at = 0; at < left.size();) {
        if (field != vmsa_fields().end() && field->offset == at) {
            if (!std::ranges::equal(bytes_of(left, *field), bytes_of(right, *field))) {
                differences.push_back({.field = std::string{field->name}, .left = text_of(left, *field), .right = text_of(right, *field)});
            }
            at += field->size_bytes;
            ++field;
            continue;
        }
        if (left[at] != right[at]) {
            differences.push_back(
                {.field = fmt::format("byte {:#x}", at), .left = fmt::format("{:#x}", left[at]), .right = fmt::format("{:#x}", right[at])});
        }
        ++at;
    }
    return differences;
}

Vmsa build_vmsa(const VmsaProfile& profile, unsigned vcpu_index, const VmsaInput& input) {
    const bool is_boot_cpu = vcpu_index == 0;
    const auto reset_address = [&] {
        if (!input.ap_reset_address || *input.ap_reset_address == 0) {
            throw Error{Fault::malformed,
                        fmt::format("VMSA of vCPU {} ({}): AP reset address is {}, want the one of the firmware's SEV-ES reset block", vcpu_index,
                                    profile.name, input.ap_reset_address ? "0" : "missing")};
        }
        return *input.ap_reset_address;
    };
    const auto value_of = [&](const VmsaRule& rule) -> std::uint64_t {
        switch (rule.value) {
        case VmsaRule::Value::constant: return rule.constant;
        case VmsaRule::Value::signature: return input.signature.value;
        case VmsaRule::Value::features: return input.sev_features;
        case VmsaRule::Value::reset_segment: return reset_address() & 0xFFFF0000;
        case VmsaRule::Value::reset_offset: return reset_address() & 0x0000FFFF;
        }
        throw Error{Fault::bug, "broken invariant: VMSA rule of an unknown kind"};
    };
    Vmsa page{};
    for (const std::span<const VmsaRule> rules : {profile.common, profile.own}) {
        for (const VmsaRule& rule : rules) {
            const bool applies = rule.cpu == VmsaRule::Cpu::every || (rule.cpu == VmsaRule::Cpu::boot) == is_boot_cpu;
            if (applies) write_number(page, number_field(rule.field), value_of(rule));
        }
    }
    return page;
}

void check_vcpus(std::uint64_t vcpus) {
    if (vcpus == 0) throw Error{Fault::usage, fmt::format("number of vCPUs is 0, want 1 to {}", max_vcpus)};
    if (vcpus > max_vcpus) throw Error{Fault::usage, fmt::format("number of vCPUs is {}, want 1 to {}", vcpus, max_vcpus)};
}

unsigned parse_vcpus(std::string_view text) {
    const auto refuse = [&](std::string_view why) {
        throw Error{Fault::usage,
                    fmt::format("number of vCPUs is '{}', {}, want a decimal number from 1 to {}", printable(text, 40), why, max_vcpus)};
    };
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (text.empty()) refuse("which is empty");
    if (text.size() > 1 && text.front() == '-' && std::ranges::all_of(text.substr(1), is_digit)) refuse("which is negative");
    if (!std::ranges::all_of(text, is_digit)) refuse("which is no decimal number");
    std::uint64_t value = 0;
    for (const char digit : text) {
        value = 10 * value + static_cast<std::uint64_t>(digit - '0');
        if (value > max_vcpus) refuse("which is too many");
    }
    if (value == 0) refuse("which is none");
    return static_cast<unsigned>(value);
}

} // namespace sev::measure
