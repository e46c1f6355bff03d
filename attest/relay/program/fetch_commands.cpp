// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <thread>

#include <fmt/format.h>

#include "attest/relay/program/commands.hpp"
#include "attest/relay/program/configuration.hpp"
#include "attest/relay/program/environment.hpp"
#include "base/json.hpp"

namespace sev::relay {
namespace {

using cli::Answer;
using cli::Argument;
using cli::Arguments;
using cli::Kind;

Clock system_clock() {
    return {.now = [] { return std::chrono::floor<Milliseconds>(std::chrono::system_clock::now()); },
            .sleep = [](Milliseconds span) { std::this_thread::sleep_for(span); },
            .random =
                [] {
                    const auto bytes = random_array<2>();
                    return (bytes[0] * 256 + bytes[1]) / 65536.0;
                }};
}

Configuration configuration_of(const Arguments& given) {
    Configuration out = read_configuration(given);
    if (given.has("--cek-url")) out.settings.servers.cek = given.text("--cek-url");
    if (given.has("--ca-url")) out.settings.servers.ca = given.text("--ca-url");
    endorsement::check_pattern(out.settings.servers.cek, "{id}", "--cek-url");
    endorsement::check_pattern(out.settings.servers.ca, "{product}", "--ca-url");
    if (given.has("--cacert")) out.network.ca_file = given.text("--cacert");
    if (!out.network.ca_file.empty()) static_cast<void>(open_regular(out.network.ca_file)); // says now, and clearly, that it cannot be read
    if (const auto seconds = given.real_if("--deadline", 0.001, 86400)) out.settings.deadline = milliseconds(*seconds);
    if (const auto seconds = given.real_if("--attempt-timeout", 0.001, 86400)) out.settings.attempt_timeout = milliseconds(*seconds);
    if (const auto seconds = given.real_if("--back-off", 0.001, 3600)) out.settings.first_back_off = milliseconds(*seconds);
    if (const auto hours = given.real_if("--missing-hours", 0.0001, 168)) out.settings.missing_for = milliseconds(*hours * 3600);
    out.settings.offline = given.has("--offline");
    if (given.has("--cache")) out.cache = given.text("--cache");
    if (out.cache.empty()) out.cache = default_cache();
    return out;
}

template <std::size_t Size>
ByteArray<Size> hex_option(const std::string& text, std::string_view option, std::string_view hint) {
    const auto bytes = try_unhex(text);
    if (!bytes || bytes->size() != Size)
        throw Error{Fault::usage, fmt::format("{} is {} ({} characters), want {} hex digits", option, printable(text, 40), text.size(), 2 * Size),
                    std::string{hint}};
    ByteArray<Size> out{};
    std::ranges::copy(*bytes, out.begin());
    return out;
}

json::Value as_json(const Fetched& fetched, std::string_view what) {
    json::Value out{
        {"format", "xen-sev/relay-fetch"}, {"version", 1}, {"what", what}, {"outcome", name(fetched.outcome)}, {"subject", fetched.subject}};
    if (fetched.outcome == Outcome::missing) {
        out["reason"] = fetched.reason;
        if (fetched.ask_again) out["ask_again"] = endorsement::text(*fetched.ask_again);
        return out;
    }
    out["file"] = fetched.file.string();
    out["product"] = psp::name(fetched.authority->product());
    out["root"] = fetched.authority->root.label;
    out["amd"] = fetched.authority->root.amd;
    out["fingerprint"] = hex(fetched.cek ? fetched.cek->fingerprint() : fetched.authority->ark.fingerprint());
    return out;
}

Answer report(const Fetched& fetched, std::string_view what, cli::Console& console) {
    if (console.json())
        console.print(as_json(fetched, what));
    else if (fetched.outcome != Outcome::missing)
        console.print(fetched.file.string() + "\n");
    if (fetched.outcome != Outcome::missing) return Answer::yes;
    const std::string until = fetched.ask_again ? fmt::format("; not asked again before {}", endorsement::text(*fetched.ask_again)) : "";
    console.complain(fmt::format("endorsement missing: {}: {}{}", fetched.subject, fetched.reason, until),
                      "a guest owner who knows this chip may pin it by the fingerprint of its CEK; see sev-relay(1), MISSING ENDORSEMENTS");
    return Answer::no;
}

/// The product's ASK and ARK, or the chip's CEK as well: what both commands do.
Answer fetch(const Arguments& given, cli::Console& console, const std::optional<psp::ChipId>& id, const std::optional<Digest>& key) {
    const auto product = given.has("--product") ? psp::product_named(given.text("--product")) : std::nullopt;
    std::vector<psp::Root> roots = psp::amd_roots();
    for (const std::string& root : given.all("--root")) roots.push_back(parse_root(root));
    const Configuration configuration = configuration_of(given);

    const endorsement::Store store{configuration.cache};
    CurlHttp http{configuration.network};
    Fetcher fetcher{store, http, system_clock(), std::move(roots), configuration.settings};
    if (id) return report(fetcher.cek(*id, product, key), "cek", console);
    require(product.has_value(), "--product is required, and one of its choices");
    return report(fetcher.ca(*product), "ca", console);
}

Answer fetch_cek(const Arguments& given, cli::Console& console) {
    const auto id = hex_option<64>(given.text("--id"), "--id", "sevctl show identifier prints it");
    std::optional<Digest> key;
    if (given.has("--key")) key = hex_option<32>(given.text("--key"), "--key", "sevctl verify --json shows it as the CEK's fingerprint");
    return fetch(given, console, id, key);
}

Answer fetch_ca(const Arguments& given, cli::Console& console) { return fetch(given, console, std::nullopt, std::nullopt); }

constexpr std::string_view products = "naples|rome|milan|genoa|turin";
constexpr Argument root_option{.name = "--root",
                               .metavar = "LABEL:PRODUCT:FINGERPRINT",
                               .help = "Accept this root too: the SHA-256 of the signed bytes of an ARK, in hex. AMD's roots are built in.",
                               .repeated = true};
constexpr Argument cache_option{.name = "--cache",
                                .kind = Kind::directory,
                                .metavar = "DIR",
                                .help =
                                    "Where to keep certificates (default: /var/cache/xen-sev for root, else xen-sev in XDG_CACHE_HOME or ~/.cache)."};
constexpr Argument config_option{.name = "--config", .kind = Kind::input, .metavar = "FILE",
                                 .help = "Read settings from this file instead of /etc/xen-sev/relay.json. Options on the command line win.",
                                 .limit_bytes = Configuration::limit_bytes};
constexpr Argument cek_url_option{.name = "--cek-url", .metavar = "URL", .help = "Where CEKs are, with {id} in it. Only https."};
constexpr Argument ca_url_option{.name = "--ca-url", .metavar = "URL", .help = "Where ASK and ARK are, with {product} in it. Only https."};
constexpr Argument proxy_option{.name = "--proxy", .metavar = "URL", .help = "Go through this proxy; \"none\" ignores the environment."};
constexpr Argument cacert_option{.name = "--cacert", .kind = Kind::input, .metavar = "FILE",
                                 .help = "Hold servers against these certificates (PEM) instead of the system's."};
constexpr Argument deadline_option{.name = "--deadline", .kind = Kind::real, .metavar = "SECONDS", .help = "For everything together (default 60)."};
constexpr Argument attempt_timeout_option{
    .name = "--attempt-timeout", .kind = Kind::real, .metavar = "SECONDS", .help = "For one request (default 15)."};
constexpr Argument back_off_option{.name = "--back-off", .kind = Kind::real, .metavar = "SECONDS",
                                   .help = "How long to leave a server alone after its first failure (default 2)."};
constexpr Argument missing_hours_option{.name = "--missing-hours", .kind = Kind::real, .metavar = "HOURS",
                                        .help = "How long to believe that an endorsement does not exist (default 24, at most 168)."};
constexpr Argument offline_option{.name = "--offline", .kind = Kind::flag, .help = "Ask no server: the cache alone."};

/// What either command takes, and behind it where and how to ask.
template <std::size_t Own>
constexpr auto with_fetching(const std::array<Argument, Own>& own) {
    constexpr std::array fetching{
        root_option,
        cache_option,
        config_option,
        cek_url_option,
        ca_url_option,
        proxy_option,
        cacert_option,
        deadline_option,
        attempt_timeout_option,
        back_off_option,
        missing_hours_option,
        offline_option,
        cli::json_option,
    };
    std::array<Argument, Own + fetching.size()> out{};
    std::ranges::copy(fetching, std::ranges::copy(own, out.begin()).out);
    return out;
}

constexpr auto cek_arguments = with_fetching(std::array{
    Argument{.name = "--id", .metavar = "HEX", .help = "The chip's id: 128 hex digits, as sevctl show identifier prints it.", .required = true},
    Argument{.name = "--product",
             .kind = Kind::choice,
             .metavar = "PRODUCT",
             .help = "The chip's product (default: the one whose ASK signed the CEK).",
             .choices = products},
    Argument{
        .name = "--key", .metavar = "FINGERPRINT", .help = "Fingerprint of the CEK that the platform itself names, in hex; any other is refused."},
});
constexpr auto ca_arguments = with_fetching(std::array{
    Argument{.name = "--product",
             .kind = Kind::choice,
             .metavar = "PRODUCT",
             .help = "Whose ASK and ARK. AMD is known to publish those of the first three at the built-in address.",
             .choices = products,
             .required = true},
});

} // namespace

const cli::Command fetch_cek_command{
    .name = "fetch cek",
    .summary = "fetch the endorsement of one chip (CEK), and its product's ASK and ARK",
    .text = "Fetches the CEK of the chip with this id, and the ASK and ARK of its product. Without --product each product's ASK is tried.\n\n"
            "No certificate names a chip id: that a CEK belongs to a chip shows when the chip's own chain is verified with it, or beforehand through "
            "--key, the "
            "fingerprint of the unsigned CEK that the platform exports.",
    .example = "sev-relay fetch cek --product rome --id \"$(sevctl show identifier)\"",
    .arguments = cek_arguments,
    .run = fetch_cek,
};

const cli::Command fetch_ca_command{
    .name = "fetch ca",
    .summary = "fetch ASK and ARK of one product",
    .text = "Fetches the ASK and ARK of one product.",
    .example = "sev-relay fetch ca --product naples",
    .arguments = ca_arguments,
    .run = fetch_ca,
};

} // namespace sev::relay
