// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/bundle.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "attest/protocol/verdict.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

template <class Message>
void try_as(std::string_view text) {
    using namespace sev;
    std::optional<Message> message;
    try {
        message = attest::read_message<Message>(text, "message");
    } catch (const Error&) {
        return;
    }
    const auto again = attest::read_message<Message>(json::pretty(message->to_json()), "message");
    fuzz::expect(again == *message, "a message that parses is the same after writing and reading");
    if constexpr (std::is_same_v<Message, attest::Verdict>) {
        const std::string text_of = attest::render(*message);
        fuzz::expect(text_of.ends_with(message->trusted() ? "\nTRUSTED\n" : "NOT TRUSTED\n"), "a verdict's text ends with the answer");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev::attest;
    const std::string_view text = sev::as_text({data, size});
    try_as<PlatformEvidence>(text);
    try_as<SessionOffer>(text);
    try_as<LaunchEvidence>(text);
    try_as<Verdict>(text);
    try_as<SecretPacketMessage>(text);
    try_as<Bundle>(text);
    return 0;
}
