// SPDX-License-Identifier: Apache-2.0
#include "attest/reference.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/crypto.hpp"
#include "base/error.hpp"
#include "ovmf-measure/launch_digest.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t sentence_limit = 16;

/// Hashes a region alone and as part of the launch.
class Measuring {
public:
    void add(Region region, ByteView bytes, std::uint64_t length_bytes) {
        Sha256 own;
        const auto both = [&](ByteView part) {
            own.update(part);
            whole_.update(part);
        };
        both(bytes);
        static constexpr ByteArray<4096> zeros{};
        for (std::uint64_t left = length_bytes - bytes.size(); left > 0;) {
            const auto now = static_cast<std::size_t>(std::min<std::uint64_t>(left, zeros.size()));
            both(ByteView{zeros}.first(now));
            left -= now;
        }
        region.length_bytes = length_bytes;
        region.sha256 = own.finish();
        regions_.push_back(std::move(region));
    }
    void finish(Reference& out) {
        out.digest = whole_.finish();
        out.regions = std::move(regions_);
    }

private:
    Sha256 whole_;
    std::vector<Region> regions_;
};

template <class Recipe>
std::vector<measure::Vmsa> vmsas_of(const Recipe& recipe, ByteView firmware) {
    if (recipe.vcpus == 0) return {};
    require(recipe.vmsa_profile.has_value(), "a recipe with vCPUs has a VMSA profile");
    return measure::qemu_vmsas(measure::vmsa_profile(*recipe.vmsa_profile), recipe.vcpus, recipe.cpu.value_or(measure::CpuSignature{}), firmware,
                               recipe.sev_features);
}

/// base/path, or path itself when it is absolute.
Path found_at(const Path& base, const Path& path) { return base / path; }

void put_uncovered(Reference& out, const measure::QemuLaunch& launch, bool direct_boot) {
    for (const measure::CoverageFinding& finding : measure::coverage(launch, direct_boot))
        out.uncovered.push_back(fmt::format("{}: {}", finding.id, finding.text));
}

void resolve(const DigestReference& known, const Path&, Reference& out) {
    out.digest = known.digest;
    out.regions = known.regions;
}

void resolve(const QemuRecipe& recipe, const Path& base, Reference& out) {
    const MappedFile firmware{found_at(base, recipe.firmware)};
    measure::QemuLaunch launch{.firmware = firmware.bytes(), .kernel = std::nullopt, .vmsas = vmsas_of(recipe, firmware.bytes())};
    if (recipe.kernel) {
        const auto digest_of = [&](const Path& path) { return digest_file(found_at(base, path)).sha256; };
        launch.kernel = measure::KernelHashes::of(digest_of(*recipe.kernel), recipe.initrd ? std::optional{digest_of(*recipe.initrd)} : std::nullopt,
                                                  recipe.cmdline);
    }
    out.digest = measure::launch_digest(launch);
    for (measure::MeasuredRegion& region : measure::regions(launch))
        out.regions.push_back({.label = std::move(region.label),
                               .gpa = region.gpa ? std::optional{psp::Gpa{*region.gpa}} : std::nullopt,
                               .length_bytes = region.length_bytes,
                               .sha256 = region.sha256,
                               .source = std::move(region.source)});
    const auto block = measure::FirmwareTable::parse(firmware.bytes()).secret_block;
    if (block && block->base != 0) out.secret_block = *block;
    put_uncovered(out, launch, recipe.kernel.has_value());
}

void resolve(const ImageRecipe& recipe, const Path& base, Reference& out) {
    require(!recipe.parts.empty(), "an image recipe has parts");
    Measuring measuring;
    std::optional<MappedFile> last;
    for (const ImageRecipe::Part& part : recipe.parts) {
        const Path path = found_at(base, part.file);
        last.emplace(path);
        const std::uint64_t size = last->bytes().size(), length = part.length_bytes.value_or((size + 15) / 16 * 16);
        if (length == 0) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want at least 1, or a length in the recipe", path.string())};
        if (length < size)
            throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the recipe's length of {}", path.string(), size, length)};
        measuring.add({.label = part.label, .gpa = part.gpa, .length_bytes = length, .sha256 = {}, .source = part.file.string()}, last->bytes(),
                      length);
    }
    const auto vmsas = vmsas_of(recipe, last->bytes());
    for (std::size_t i = 0; i < vmsas.size(); ++i)
        measuring.add({.label = fmt::format("vmsa {}", i), .gpa = {}, .length_bytes = 0, .sha256 = {}, .source = {}}, vmsas[i], vmsas[i].size());
    measuring.finish(out);
    out.uncovered.emplace_back("addresses-unbound: the launch digest covers the bytes and their order, not where the host put them");
}

void resolve(const XenRecipe& recipe, const Path& base, Reference& out) {
    const XenPrediction predicted = predict(recipe, base);
    measure::XenMeasurement measured = measure::measure(predicted.image, recipe.order);
    out.digest = measured.digest;
    for (measure::MeasuredRegion& region : measured.regions)
        out.regions.push_back({.label = std::move(region.label),
                               .gpa = psp::Gpa{region.gpa.value()},
                               .length_bytes = region.length_bytes,
                               .sha256 = region.sha256,
                               .source = std::move(region.source)});
    for (const measure::CoverageFinding& finding : measure::coverage(predicted.image, predicted.config))
        out.uncovered.push_back(fmt::format("{}: {}", finding.id, finding.text));
    if (measured.later_digest)
        out.others.push_back(
            {.digest = *measured.later_digest,
             .meaning = "the toolstack process had built a PVH guest before this one, which changes five bytes of the ACPI tables and nothing else: "
                        "build each guest in a process of its own, or add a reference with \"build\": \"later\""});
}

/// The files of a recipe, in its order.
std::vector<Path> files(const DigestReference&, const Path&) { return {}; }

std::vector<Path> files(const QemuRecipe& recipe, const Path& base) {
    std::vector<Path> out{found_at(base, recipe.firmware)};
    if (recipe.kernel) out.push_back(found_at(base, *recipe.kernel));
    if (recipe.initrd) out.push_back(found_at(base, *recipe.initrd));
    return out;
}

std::vector<Path> files(const ImageRecipe& recipe, const Path& base) {
    std::vector<Path> out;
    for (const ImageRecipe::Part& part : recipe.parts) out.push_back(found_at(base, part.file));
    return out;
}

std::vector<Path> files(const XenRecipe& recipe, const Path& base) { return files_of(recipe, base); }

void compare(std::size_t index, const Region& want, const Region& got, std::vector<std::string>& out) {
    const std::string where = fmt::format("region {} (\"{}\")", index, want.label);
    if (got.label != want.label) out.push_back(fmt::format("{}: the host calls it \"{}\"", where, printable(got.label)));
    if (want.gpa && got.gpa != want.gpa)
        out.push_back(fmt::format("{}: the host put it at {}, want 0x{:x}", where,
                                  got.gpa ? fmt::format("0x{:x}", psp::raw(*got.gpa)) : std::string{"no address"}, psp::raw(*want.gpa)));
    if (got.length_bytes != want.length_bytes) out.push_back(fmt::format("{}: {} bytes, want {}", where, got.length_bytes, want.length_bytes));
    if (got.sha256 != want.sha256) out.push_back(fmt::format("{}: sha256 {}, want {}", where, hex(got.sha256), hex(want.sha256)));
}

} // namespace

Reference resolve_reference(const ReferenceRule& rule, const Path& base) {
    return within(fmt::format("reference {}", rule.name), [&] {
        Reference out;
        out.name = rule.name;
        std::visit([&](const auto& value) { resolve(value, base, out); }, rule.value);
        return out;
    });
}

std::vector<Path> files_of(const ReferenceRule& rule, const Path& base) {
    return within(fmt::format("reference {}", rule.name),
                  [&] { return std::visit([&](const auto& value) { return files(value, base); }, rule.value); });
}

std::vector<Reference> resolve_references(const OwnerPolicy& policy) {
    std::vector<Reference> out;
    for (const ReferenceRule& rule : policy.references) out.push_back(resolve_reference(rule, policy.base));
    return out;
}

std::vector<std::string> explain_difference(const Reference& reference, const LaunchDescriptor& descriptor) {
    std::vector<std::string> out;
    if (reference.regions.empty()) return out;
    const std::size_t common = std::min(reference.regions.size(), descriptor.regions.size());
    for (std::size_t i = 0; i < common && out.size() < sentence_limit; ++i) compare(i, reference.regions[i], descriptor.regions[i], out);
    if (descriptor.regions.size() < reference.regions.size())
        out.push_back(fmt::format("{} regions, want {}: \"{}\" is missing", descriptor.regions.size(), reference.regions.size(),
                                  reference.regions[common].label));
    if (descriptor.regions.size() > reference.regions.size())
        out.push_back(fmt::format("{} regions, want {}: \"{}\" is surplus", descriptor.regions.size(), reference.regions.size(),
                                  printable(descriptor.regions[common].label)));
    return out;
}

} // namespace sev::attest
