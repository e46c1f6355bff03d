// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

json::Value measure_answers() { return json::parse(read_text(test::fixture("measure/answers.json"), 1U << 22), "answers", {.bytes = 1U << 22}); }

void write(const Path& path, std::string_view text) { write_file(path, as_bytes(text), Visibility::readable, Existing::refuse); }

QemuRecipe recipe_of(const json::Value& answer, const Path& firmware) {
    QemuRecipe recipe;
    recipe.firmware = firmware;
    if (answer.at("table").is_string()) {
        recipe.kernel = "kernel";
        if (answer.at("table") == "all") {
            recipe.initrd = "initrd";
            recipe.cmdline = "root=/dev/sda1 quiet";
        }
    }
    recipe.vcpus = answer.at("vcpus").get<unsigned>();
    if (recipe.vcpus > 0) {
        recipe.vmsa_profile = answer.at("profile").get<std::string>();
        recipe.cpu = measure::CpuSignature{0x00800F12};
    }
    return recipe;
}

} // namespace

TEST_CASE("references: QEMU recipes give the digests of an independent implementation") {
    const test::TemporaryDirectory directory;
    write(directory / "kernel", "a kernel");
    write(directory / "initrd", "a ramdisk");
    std::size_t compared = 0;
    const json::Value all = measure_answers();
    for (const json::Value& answer : all.at("digests")) {
        CAPTURE(answer.dump());
        const Path firmware = std::filesystem::absolute(test::fixture("measure")) / answer.at("firmware").get<std::string>();
        const Reference reference = resolve_reference({.name = "r", .value = recipe_of(answer, firmware)}, directory.path());
        CHECK(hex(reference.digest) == test::string_of(answer, "digest"));
        CHECK(reference.regions.size() == 1 + answer.at("table").is_string() + answer.at("vcpus").get<std::size_t>());
        CHECK_FALSE(reference.uncovered.empty());
        if (answer.at("firmware") == "full.fd") CHECK(reference.secret_block == measure::Area{.base = 0x810000, .size_bytes = 0xC00});
        else CHECK_FALSE(reference.secret_block.has_value()); // base 0 is no block
        ++compared;
    }
    CHECK(compared > 10);
}

TEST_CASE("references: the digests of sev-snp-measure and virtee") {
    const auto file = test::vector_file("measurement/launch_digest.json");
    if (!file) return;
    const json::Value vectors = json::parse(read_text(*file, 1U << 20), "vectors");
    const test::TemporaryDirectory directory;
    write(directory / "empty", "");
    for (const json::Value& one : vectors.at("cases")) {
        CAPTURE(one.dump());
        QemuRecipe recipe;
        recipe.firmware = std::filesystem::absolute(test::vector_file("firmware").value()) / one.at("firmware").get<std::string>();
        if (!one.at("kernel").is_null()) {
            recipe.kernel = "empty";
            recipe.initrd = "empty";
            recipe.cmdline = one.at("append").get<std::string>();
        }
        if (one.at("mode") == "seves") {
            recipe.vcpus = one.at("vcpus").get<unsigned>();
            recipe.vmsa_profile = one.contains("vmm") ? "ec2" : "kvm-init2";
            recipe.cpu = measure::CpuSignature{static_cast<std::uint32_t>(std::stoul(one.at("vcpu_sig").get<std::string>(), nullptr, 16))};
        }
        const ReferenceRule rule{.name = "vector", .value = recipe};
        if (one.contains("error")) CHECK_THROWS_AS(resolve_reference(rule, directory.path()), Error);
        else CHECK(hex(resolve_reference(rule, directory.path()).digest) == one.at("digest_hex").get<std::string>());
    }
}

TEST_CASE("references: what cannot be computed is named") {
    const test::TemporaryDirectory directory;
    write(directory / "empty", "");
    write(directory / "small", "0123456789abcdef0");
    const auto refused = [&](decltype(ReferenceRule::value) value, const char* message) {
        CHECK_THROWS_WITH_AS(resolve_reference({.name = "mine", .value = std::move(value)}, directory.path()), doctest::Contains(message), Error);
    };
    QemuRecipe qemu;
    qemu.firmware = "absent.fd";
    refused(qemu, "reference mine: ");
    refused(qemu, "absent.fd");
    qemu.firmware = "empty";
    refused(qemu, "reference mine: firmware: 0 bytes");
    qemu.firmware = "small";
    refused(qemu, "reference mine: firmware: 17 bytes");
    ImageRecipe image;
    image.parts.push_back({.label = "a", .gpa = {}, .file = "empty", .length_bytes = {}});
    refused(image, "0 bytes, want at least 1");
    image.parts.at(0) = {.label = "a", .gpa = {}, .file = "small", .length_bytes = 16};
    refused(image, "17 bytes, more than the recipe's length of 16");
    image.parts.at(0).length_bytes.reset();
    CHECK(resolve_reference({.name = "mine", .value = image}, directory.path()).regions.at(0).length_bytes == 32);
    image.parts.at(0).file = ".";
    refused(image, "reference mine: ");
}

TEST_CASE("explain_difference: each field of a region, missing and surplus regions") {
    const Reference reference{.name = "r",
                              .digest = {},
                              .regions = {{.label = "a", .gpa = psp::Gpa{16}, .length_bytes = 16, .sha256 = {}, .source = {}},
                                          {.label = "b", .gpa = {}, .length_bytes = 32, .sha256 = {}, .source = {}}},
                              .secret_block = {},
                              .uncovered = {}};
    LaunchDescriptor same;
    same.regions = reference.regions;
    CHECK(explain_difference(reference, same).empty());
    const auto sentence = [&](const std::function<void(LaunchDescriptor&)>& change) {
        LaunchDescriptor descriptor = same;
        change(descriptor);
        const auto sentences = explain_difference(reference, descriptor);
        REQUIRE(sentences.size() == 1);
        return sentences.at(0);
    };
    CHECK(sentence([](auto& d) { d.regions[0].label = "x"; }) == "region 0 (\"a\"): the host calls it \"x\"");
    CHECK(sentence([](auto& d) { d.regions[0].gpa = psp::Gpa{32}; }) == "region 0 (\"a\"): the host put it at 0x20, want 0x10");
    CHECK(sentence([](auto& d) { d.regions[0].gpa.reset(); }) == "region 0 (\"a\"): the host put it at no address, want 0x10");
    CHECK(sentence([](auto& d) { d.regions[1].length_bytes = 16; }) == "region 1 (\"b\"): 16 bytes, want 32");
    CHECK(sentence([](auto& d) { d.regions[1].sha256[0] = 1; }).starts_with("region 1 (\"b\"): sha256 01000000"));
    CHECK(sentence([](auto& d) { d.regions.pop_back(); }) == "1 regions, want 2: \"b\" is missing");
    CHECK(sentence([](auto& d) { d.regions.push_back(d.regions[0]); }) == "3 regions, want 2: \"a\" is surplus");
    CHECK(explain_difference({.name = "r", .digest = {}, .regions = {}, .secret_block = {}, .uncovered = {}}, same).empty());
}
