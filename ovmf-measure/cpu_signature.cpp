// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "ovmf-measure/vmsa.hpp"

namespace sev::measure {

namespace {

// Source: QEMU's CPU model definitions (target/i386/cpu.c): no version of these models changes family, model or stepping.
constexpr auto models = std::to_array<QemuCpuModel>({
    {"EPYC", 23, 1, 2},        {"EPYC-v1", 23, 1, 2},      {"EPYC-v2", 23, 1, 2},      {"EPYC-v3", 23, 1, 2},       {"EPYC-v4", 23, 1, 2},
    {"EPYC-IBPB", 23, 1, 2},   {"EPYC-Rome", 23, 49, 0},   {"EPYC-Rome-v1", 23, 49, 0}, {"EPYC-Rome-v2", 23, 49, 0}, {"EPYC-Rome-v3", 23, 49, 0},
    {"EPYC-Milan", 25, 1, 1},  {"EPYC-Milan-v1", 25, 1, 1}, {"EPYC-Milan-v2", 25, 1, 1}, {"EPYC-Genoa", 25, 17, 0},   {"EPYC-Genoa-v1", 25, 17, 0},
    {"EPYC-Turin", 26, 0, 0},
});

} // namespace

CpuSignature CpuSignature::of(unsigned family, unsigned model, unsigned stepping) {
    const auto check = [](std::string_view what, unsigned number, unsigned limit) {
        if (number > limit) throw Error{Fault::usage, fmt::format("CPU {} is {}, want 0 to {}", what, number, limit)};
    };
    check("family", family, 0x0F + 0xFF);
    check("model", model, 0xFF);
    check("stepping", stepping, 0x0F);
    // CPUID Fn0000_0001 EAX: base family stops at 15, the rest goes into the extended family; the model's halves are apart.
    const unsigned base_family = std::min(family, 0x0FU);
    return {(family - base_family) << 20 | (model >> 4) << 16 | base_family << 8 | (model & 0x0F) << 4 | stepping};
}

CpuSignature CpuSignature::of_qemu_model(std::string_view model) {
    const auto found = std::ranges::find(models, model, &QemuCpuModel::name);
    if (found != models.end()) return of(found->family, found->model, found->stepping);
    std::string known;
    for (const QemuCpuModel& one : models) known += fmt::format("{}{}", known.empty() ? "" : ", ", one.name);
    throw Error{Fault::usage, fmt::format("CPU model is '{}', want one of {}", printable(model, 40), known),
                "with -cpu host, or for another model, give family, model and stepping"};
}

unsigned CpuSignature::family() const noexcept { return (value >> 8 & 0x0F) + (value >> 20 & 0xFF); }
unsigned CpuSignature::model() const noexcept { return (value >> 4 & 0x0F) | (value >> 12 & 0xF0); }
unsigned CpuSignature::stepping() const noexcept { return value & 0x0F; }

std::string CpuSignature::text() const {
    return fmt::format("{:#010x}: family {}, model {}, stepping {}", value, family(), model(), stepping());
}

std::span<const QemuCpuModel> qemu_cpu_models() { return models; }

} // namespace sev::measure
