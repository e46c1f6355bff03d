// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cerrno>
#include <functional>
#include <map>

#include "base/json.hpp"
#include "psp/xen/coco.hpp"
#include "tests/support.hpp"

/// A hypervisor with the coco hypercall that is a function of the test, and the answers that tests/fixtures/coco/make.py packed for it.
namespace sev::test::coco {

using namespace sev::psp::xen;

inline Bytes answer(std::string_view key) {
    static const json::Value all = json::parse(read_text(fixture("coco/answers.json"), 1U << 20), "answers");
    return *try_unhex(all.at(std::string{key}).get<std::string>());
}
inline std::string text_answer(std::string_view key) {
    static const json::Value all = json::parse(read_text(fixture("coco/answers.json"), 1U << 20), "answers");
    return all.at(std::string{key}).get<std::string>();
}

struct Asked {
    std::uint32_t operation;
    Bytes argument;
    std::vector<Bytes> pointed_to;
};

/// An errno and perhaps an answer for each operation. Where an argument has a handle, its address reads 0x1122334455667788.
class Fake final : public CocoCalls {
public:
    struct Reply {
        int error_number = 0;
        Bytes bytes; // written over the front of the argument
    };
    std::map<std::uint32_t, Reply> replies; // others: ENOSYS
    std::vector<Asked> asked;
    std::function<void(std::uint32_t operation)> afterwards = [](std::uint32_t) {};

    int call(std::uint32_t operation, std::span<std::uint8_t> argument, std::span<const Handle> handles) override {
        Asked now{operation, {}, {}};
        for (const Handle& handle : handles) {
            for (std::size_t i = 0; i < 8; ++i) argument[handle.address_at + i] = static_cast<std::uint8_t>(0x1122334455667788 >> (8 * i));
            now.pointed_to.emplace_back(handle.bytes.begin(), handle.bytes.end());
        }
        now.argument.assign(argument.begin(), argument.end());
        asked.push_back(now);
        const auto found = replies.find(operation);
        if (found == replies.end()) return ENOSYS;
        REQUIRE(found->second.bytes.size() <= argument.size());
        std::ranges::copy(found->second.bytes, argument.begin());
        const int error_number = found->second.error_number;
        afterwards(operation);
        return error_number;
    }
};

/// What Vates' branch answers to the questions of the probe.
inline void be_vates(Fake& fake) {
    fake.replies[0] = {.error_number = 0, .bytes = answer("status_vates")};
    fake.replies[2] = {.error_number = ENOENT, .bytes = {}};
}
inline void be_rfc(Fake& fake) { fake.replies[0] = {.error_number = 0, .bytes = answer("status_rfc")}; }

/// Certificate `index` of a binary chain that tests/fixtures/psp has.
inline psp::SevCertificate certificate_of(std::string_view chain, std::size_t index) {
    const Bytes bytes = read_file(fixture(fmt::format("psp/{}.bin", chain)), 1U << 20);
    return psp::parse_sev_certificate(ByteView{bytes}.subspan(index * 2084, 2084), "certificate");
}

} // namespace sev::test::coco
