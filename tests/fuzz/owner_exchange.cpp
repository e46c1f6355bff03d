// SPDX-License-Identifier: Apache-2.0
// Whatever a host sends, the owner's service gives a signed answer to exactly that, and releases nothing for it: no input here bears a MEASURE under
// a session's TIK.
#include <filesystem>

#include <unistd.h>

#include "attest/owner/service.hpp"
#include "attest/sign_jws.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace sev;
using namespace sev::attest;

struct World {
    Path folder = [] {
        std::string name = (std::filesystem::temp_directory_path() / "xen-sev-fuzz-XXXXXX").string();
        if (!mkdtemp(name.data())) std::abort();
        return Path{name};
    }();
    P384Key key = P384Key::generate();
    owner::SealKeys seal_keys = owner::SealKeys::fresh();
    owner::Clients clients{{{.channel = "uid:0", .label = "", .policies = std::nullopt}}};
    std::unique_ptr<owner::Store> store =
        owner::open_sqlite_store(folder / "owner.db", {.owner = owner_key(key).thumbprint(), .signer = owner::head_signer(key)});
    owner::Policies policies{owner::policy_folder("tests/fixtures/attest")};
    owner::OwnerService service{
        {.key = key, .policies = policies, .store = *store, .seal_keys = seal_keys, .clients = clients, .limits = {}, .build = "fuzz"}};
    ~World() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static World world;
    const std::string text{as_text({data, size})};
    const auto answered = world.service.answer(text, "uid:0", parse_time("2026-06-01T12:00:00Z", "time"));
    const auto answer = read_message<ExchangeAnswer>(verify_jws(answered.jws, world.service.key(), ExchangeAnswer::jws_type, "answer"), "answer");
    fuzz::expect(answer.request == sha256(as_bytes(text)), "an answer names the request it is to");
    if (const auto* judgement = std::get_if<JudgementAnswer>(&answer.body))
        fuzz::expect(judgement->packets.empty(), "no secret leaves without a MEASURE of the session");
    bool readable = true;
    try {
        read_exchange_request(text, "request");
    } catch (const Error&) {
        readable = false;
    }
    fuzz::expect(readable || answered.kind == owner::AnswerKind::trouble, "what is no request is trouble");
    if (readable) open_answer(answered.jws, text, world.service.key());
    return 0;
}
