// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>

#include "attest/endorsement/servers.hpp"
#include "attest/endorsement/store.hpp"
#include "attest/relay/http.hpp"

namespace sev::relay {

using endorsement::Milliseconds;
using endorsement::Time;

/// Time and chance, so that a test can stand in for them.
struct Clock {
    std::function<Time()> now;
    std::function<void(Milliseconds)> sleep;
    std::function<double()> random; // from 0 up to 1
};

struct Settings {
    endorsement::Servers servers;
    Milliseconds deadline = std::chrono::seconds{60};        // for everything together
    Milliseconds attempt_timeout = std::chrono::seconds{15}; // for one request
    Milliseconds first_back_off = std::chrono::seconds{2};
    Milliseconds missing_for = std::chrono::hours{24};       // how long "there is none" is believed; at most endorsement::longest_missing
    bool offline = false;                                    // the cache alone
};

enum class Outcome { cached, fetched, missing };
std::string_view name(Outcome outcome);

/// What became of one fetch. `missing`: a server says that it has none; `reason` and `ask_again` say who and until when that is believed.
struct Fetched {
    Outcome outcome = Outcome::missing;
    std::string subject; // "ca naples", "cek <id>": what is there or missing. A CEK may be missing because its product's ASK is.
    Path file;
    std::optional<endorsement::Authority> authority; // not when missing
    std::optional<psp::SevCertificate> cek;          // of fetch_cek, not when missing
    std::string reason;
    std::optional<Time> ask_again;
};

/// Fetches endorsements into a store. One request at most is under way for one thing, between all processes that use the store: the others wait for
/// it, and find what it brought. What a server asks for (Retry-After), and a growing back-off after failures, hold for all of them too. Nothing is
/// stored that does not verify to one of `roots`. Throws Error{Fault::network} when there is no answer within the deadline, or none that could become
/// one; {Fault::malformed} when what came is refused; {Fault::system} when the store cannot be read or written.
class Fetcher {
public:
    Fetcher(const endorsement::Store& store, Http& http, Clock clock, std::vector<psp::Root> roots, Settings settings);
    /// ASK and ARK of a product.
    Fetched ca(psp::Product product);
    /// The CEK of the chip with that id (GET_ID), signed by the ASK of `product`, or of the product whose ASK did sign it. When `key` is given, the
    /// CEK must be the one with this SevCertificate::fingerprint, as the platform itself names it.
    Fetched cek(const psp::ChipId& id, std::optional<psp::Product> product, const std::optional<Digest>& key = std::nullopt);

private:
    /// The body, or why the server has none.
    struct Missing {
        std::string reason;
    };
    std::variant<Bytes, Missing> ask(const std::string& url, std::size_t limit_bytes);
    void wait_for_permission(const std::string& server, const std::string& last_failure, unsigned attempts);
    void note_failure(const std::string& server, const std::string& reason, const std::optional<std::string>& retry_after);
    [[noreturn]] void refused(const std::string& url, const std::string& why);
    [[noreturn]] void not_offline(const std::string& subject, const std::string& refusal) const;
    endorsement::MissingNote missing_note(const std::string& subject, const std::string& url, const std::string& reason) const;
    endorsement::Lock lock(std::string_view name) const;
    Fetched fetch_ca(psp::Product product);
    Fetched endorsed(const psp::ChipId& id, const psp::SevCertificate& cek, const std::string& url, std::optional<psp::Product> product);
    Milliseconds left() const { return deadline_ - clock_.now(); }

    const endorsement::Store& store_;
    Http& http_;
    Clock clock_;
    std::vector<psp::Root> roots_;
    Settings settings_;
    Time deadline_;
};

} // namespace sev::relay
