// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "attest/endorsement/servers.hpp"
#include "attest/endorsement/store.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::endorsement;

namespace {

template <class Note>
void note(std::string_view text) {
    try {
        const Note parsed = Note::parse(text, "note");
        fuzz::expect(Note::parse(parsed.serialize(), "note") == parsed, "a note survives being written");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed, "a bad note is the note's fault");
    }
}

} // namespace

/// What a server says or a cache holds. The first byte chooses: a Retry-After, a note, an address, or certificates.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const ByteView bytes{data + 1, size - 1};
    const std::string_view text = as_text(bytes);
    const Time now{std::chrono::seconds{1'800'000'000}};
    switch (data[0]) {
    case 'r':
        if (const auto at = retry_after(text, now)) fuzz::expect(*at >= now && *at <= now + longest_wait, "a Retry-After is within a day");
        break;
    case 'w': note<WaitNote>(text); break;
    case 'm': note<MissingNote>(text); break;
    case 'u':
        try {
            check_pattern(text, "{id}", "address");
            fuzz::expect(cek_url({.cek = std::string{text}}, psp::ChipId{}).size() == text.size() - 4 + 128, "the id is put in once");
            fuzz::expect(server_of(text).find('/') == std::string::npos, "a server is no path");
        } catch (const Error& error) {
            fuzz::expect(error.fault() == Fault::usage, "a bad address is the user's fault");
        }
        break;
    case 'c': {
        const auto authority = judge_ca(bytes, "CA", psp::amd_roots(), std::nullopt);
        fuzz::expect(authority.value.has_value() == authority.refusal.empty(), "an answer, or a reason");
        if (authority) fuzz::expect(std::ranges::equal(authority.value->serialize(), bytes), "a CA serialises to the same bytes");
        break;
    }
    case 'k': {
        const auto cek = parse_cek(bytes, "CEK");
        fuzz::expect(cek.value.has_value() == cek.refusal.empty(), "an answer, or a reason");
        if (cek)
            fuzz::expect(std::ranges::equal(cek.value->serialize(), bytes) && !possible_products(*cek.value).empty(),
                         "a CEK serialises to the same bytes");
        break;
    }
    default: break;
    }
    return 0;
}
