// SPDX-License-Identifier: Apache-2.0
#include "launch/image_layout.hpp"

#include <limits>

#include <fmt/format.h>

#include "attest/protocol/message.hpp"
#include "base/error.hpp"
#include "ovmf-measure/launch_digest.hpp"

namespace sev::launch {
namespace {

constexpr std::uint64_t highest_gpa = (std::uint64_t{1} << 52) - 1;

ImagePart part_from_json(const json::Value& value, const std::string& what, const Path& base) {
    json::Object object{value, what};
    ImagePart part{.label = attest::checked_name(object.string("label"), what + ": label"),
                   .gpa = psp::Gpa{object.number("gpa", highest_gpa)},
                   .file = base / object.string("file"),
                   .length_bytes = std::nullopt};
    if (object.has("length")) part.length_bytes = object.number("length", ImageLayout::part_limit_bytes);
    if (psp::raw(part.gpa) % 16 != 0) object.refuse("gpa", fmt::format("is {:#x}, want a multiple of 16", psp::raw(part.gpa)));
    if (part.length_bytes && (*part.length_bytes == 0 || *part.length_bytes % 16 != 0))
        object.refuse("length", fmt::format("is {}, want a multiple of 16 above 0", *part.length_bytes));
    object.done();
    return part;
}

ImageSlot slot_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    ImageSlot slot{.name = attest::checked_name(object.string("name"), what + ": name"),
                   .gpa = psp::Gpa{object.number("gpa", highest_gpa)},
                   .length_bytes = object.number("length", 1U << 20)};
    if (psp::raw(slot.gpa) % 16 != 0) object.refuse("gpa", fmt::format("is {:#x}, want a multiple of 16", psp::raw(slot.gpa)));
    if (slot.length_bytes == 0 || slot.length_bytes % 16 != 0)
        object.refuse("length", fmt::format("is {}, want a multiple of 16 above 0", slot.length_bytes));
    object.done();
    return slot;
}

measure::CpuSignature cpu_from_json(json::Object& object) {
    if (object.at("cpu").is_string()) return measure::CpuSignature::of_qemu_model(object.string("cpu"));
    json::Object cpu = object.object("cpu");
    const auto number = [&](const char* key) { return static_cast<unsigned>(cpu.number(key, 4095)); };
    const unsigned family = number("family"), model = number("model"), stepping = number("stepping");
    cpu.done();
    return measure::CpuSignature::of(family, model, stepping);
}

} // namespace

ImageLayout ImageLayout::from_json(const json::Value& value, const std::string& what, const Path& base) {
    json::Object object{value, what};
    attest::expect_format(object, format, 1);
    ImageLayout layout;
    for (const json::Value& part : object.array("parts", part_limit))
        layout.parts.push_back(part_from_json(part, fmt::format("{}: parts[{}]", what, layout.parts.size()), base));
    if (layout.parts.empty()) object.refuse("parts", "is empty: a launch that measures nothing proves nothing");
    if (object.has("slots"))
        for (const json::Value& slot : object.array("slots", slot_limit))
            layout.slots.push_back(slot_from_json(slot, fmt::format("{}: slots[{}]", what, layout.slots.size())));
    for (std::size_t i = 0; i < layout.slots.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (layout.slots[i].name == layout.slots[j].name) object.refuse("slots", fmt::format("has the name \"{}\" twice", layout.slots[i].name));
    layout.vcpus = static_cast<unsigned>(object.number_or("vcpus", 0, 4096));
    if (layout.vcpus > 0) {
        layout.vmsa_profile = object.string("vmsa_profile", 64);
        within(what + ": vmsa_profile", [&] { return &measure::vmsa_profile(layout.vmsa_profile); });
        layout.cpu = within(what + ": cpu", [&] { return cpu_from_json(object); });
        layout.sev_features = object.number_or("sev_features", 0, std::numeric_limits<std::uint64_t>::max());
    }
    object.done();
    return layout;
}

ImageLayout ImageLayout::load(const Path& path) {
    const std::string what = printable(path.string(), 4096);
    return from_json(json::parse(read_text(path, limit_bytes), what, {.bytes = limit_bytes, .depth = 8}), what, path.parent_path());
}

} // namespace sev::launch
