// SPDX-License-Identifier: Apache-2.0
// Whatever a host sends, the owner's service gives a signed answer to exactly that, and releases nothing for it: no input here bears a MEASURE under
// a session's TIK. A judgement that can be read is asked for a second time, of a session that is there, since no input knows the id of one.
#include <filesystem>
#include <optional>

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
    owner::ServiceLimits limits{.caps = {.total = 1'000'000, .per_channel = 1'000'000}}; // `ask` forgets
    std::unique_ptr<owner::Store> store =
        owner::open_sqlite_store(folder / "owner.db", {.owner = owner_key(key).thumbprint(), .signer = owner::head_signer(key)});
    owner::Policies policies{owner::policy_folder("tests/fixtures/attest")};
    owner::OwnerService service{
        {.key = key, .policies = policies, .store = *store, .seal_keys = seal_keys, .clients = clients, .limits = limits, .build = "fuzz"}};
    std::string opening = read_text("tests/fuzz/corpus/owner_exchange/session.json", 1U << 20); // a request that gets an offer
    Time now = parse_time("2026-06-01T12:00:00Z", "time");
    std::uint64_t asked = 0;
    ~World() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }

    /// Asks, and holds the answer to all that is true of every one.
    ExchangeAnswer ask(const std::string& text) {
        constexpr std::uint64_t forget_every = 512;
        const auto later = now + std::chrono::hours{1};
        if (++asked % forget_every == 0) store->clean(later, later, 0);
        const auto answered = service.answer(text, "uid:0", now);
        auto answer = read_message<ExchangeAnswer>(verify_jws(answered.jws, service.key(), ExchangeAnswer::jws_type, "answer"), "answer");
        fuzz::expect(answer.request == sha256(as_bytes(text)), "an answer names the request it is to");
        if (const auto* judgement = std::get_if<JudgementAnswer>(&answer.body)) {
            fuzz::expect(!judgement->verdict.trusted(), "no launch is trusted without a MEASURE of the session");
            fuzz::expect(judgement->packets.empty(), "no secret leaves without a MEASURE of the session");
        }
        if (request_of(text)) open_answer(answered.jws, text, service.key());
        else fuzz::expect(answered.kind == owner::AnswerKind::trouble, "what is no request is trouble");
        return answer;
    }

    static std::optional<ExchangeRequest> request_of(const std::string& text) {
        try {
            return read_exchange_request(text, "request");
        } catch (const Error&) {
            return std::nullopt;
        }
    }

    /// The same judgement, asked of a session that was just opened.
    void judge_in_session(JudgementRequest request) {
        const auto opened = ask(opening);
        const auto* offer = std::get_if<SessionOffer>(&opened.body);
        fuzz::expect(offer, "an honest platform gets a session");
        request.launch.session_id = offer->session_id;
        request.launch.launch_name = offer->launch_name;
        request.launch.policy = offer->policy;
        const std::string text = request.to_json().dump();
        if (text.size() > JudgementRequest::limit_bytes) return; // longer than it came: escaped, or with numbers written out
        fuzz::expect(std::holds_alternative<JudgementAnswer>(ask(text).body), "a session that is there is judged");
        fuzz::expect(std::holds_alternative<ExchangeTrouble>(ask(text).body), "a session is judged once");
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static World world;
    const std::string text{as_text({data, size})};
    world.ask(text);
    const auto request = World::request_of(text);
    if (request && std::holds_alternative<JudgementRequest>(*request)) world.judge_in_session(std::get<JudgementRequest>(*request));
    return 0;
}
