// SPDX-License-Identifier: Apache-2.0
#include "attest/reference.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    using attest::LaunchDescriptor;
    std::optional<LaunchDescriptor> descriptor;
    try {
        descriptor = attest::read_message<LaunchDescriptor>(as_text({data, size}), "descriptor");
    } catch (const Error&) {
        return 0;
    }
    const auto again = attest::read_message<LaunchDescriptor>(json::pretty(descriptor->to_json()), "descriptor");
    fuzz::expect(again == *descriptor, "a descriptor that parses is the same after writing and reading");
    const attest::Reference same{.name = "same", .digest = {}, .regions = descriptor->regions, .secret_block = {}, .uncovered = {}};
    fuzz::expect(attest::explain_difference(same, *descriptor).empty(), "a descriptor does not differ from its own regions");
    const attest::Reference other{.name = "other",
                                  .digest = {},
                                  .regions = {{.label = "firmware", .gpa = psp::Gpa{0}, .length_bytes = 16, .sha256 = {}, .source = {}}},
                                  .secret_block = {},
                                  .uncovered = {}};
    for (const std::string& sentence : attest::explain_difference(other, *descriptor))
        fuzz::expect(printable(sentence, 4096) == sentence, "an explanation is fit for a terminal");
    return 0;
}
