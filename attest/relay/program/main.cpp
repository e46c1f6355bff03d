// SPDX-License-Identifier: Apache-2.0
// sev-relay: fetches AMD's certificates. It trusts nothing, and is trusted with nothing: it can only delay or deny.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include <csignal>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "attest/relay/program/configuration.hpp"
#include "base/json.hpp"

namespace sev::relay {
namespace {

constexpr const char* default_configuration = "/etc/xen-sev/relay.json";
enum class Answer : int { done = 0, not_to_be_had = 1, trouble = 2 };

std::string environment(std::initializer_list<const char*> names) {
    for (const char* const name : names)
        if (const char* const value = std::getenv(name); value && *value) return value;
    return {};
}

/// What the environment says, below the configuration file and the options. No other file of the relay reads it.
Configuration from_environment() {
    Configuration out;
    out.network.proxy = environment({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"});
    out.network.no_proxy = environment({"no_proxy", "NO_PROXY"});
    out.network.ca_file = environment({"SSL_CERT_FILE"});
    out.network.user_agent = "sev-relay/" XEN_SEV_VERSION;
    return out;
}

Path default_cache() { return endorsement::default_directory(::geteuid() == 0, environment({"XDG_CACHE_HOME"}), environment({"HOME"})); }

Clock system_clock() {
    return {.now = [] { return std::chrono::floor<Milliseconds>(std::chrono::system_clock::now()); },
            .sleep = [](Milliseconds span) { std::this_thread::sleep_for(span); },
            .random =
                [] {
                    const auto bytes = random_array<2>();
                    return (bytes[0] * 256 + bytes[1]) / 65536.0;
                }};
}

/// What stands on the command line.
struct Given {
    std::string configuration, cache, cek_url, ca_url, proxy, cacert, id, product, key;
    std::vector<std::string> roots;
    double deadline = 0, attempt_timeout = 0, back_off = 0, missing_hours = 0;
    bool offline = false, as_json = false;
};

Milliseconds milliseconds(double seconds) { return Milliseconds{std::llround(seconds * 1000)}; }

Configuration configuration_of(const Given& given) {
    Configuration out = from_environment();
    if (!given.configuration.empty() || std::filesystem::exists(default_configuration)) out.read(given.configuration.empty() ? default_configuration : given.configuration);
    if (!given.cek_url.empty()) out.settings.servers.cek = given.cek_url;
    if (!given.ca_url.empty()) out.settings.servers.ca = given.ca_url;
    endorsement::check_pattern(out.settings.servers.cek, "{id}", "--cek-url");
    endorsement::check_pattern(out.settings.servers.ca, "{product}", "--ca-url");
    if (!given.proxy.empty()) out.network.proxy = given.proxy == "none" ? "" : given.proxy;
    if (!given.cacert.empty()) out.network.ca_file = given.cacert;
    if (!out.network.ca_file.empty()) static_cast<void>(open_regular(out.network.ca_file)); // says now, and clearly, that it cannot be read
    if (given.deadline > 0) out.settings.deadline = milliseconds(given.deadline);
    if (given.attempt_timeout > 0) out.settings.attempt_timeout = milliseconds(given.attempt_timeout);
    if (given.back_off > 0) out.settings.first_back_off = milliseconds(given.back_off);
    if (given.missing_hours > 0) out.settings.missing_for = milliseconds(given.missing_hours * 3600);
    out.settings.offline = given.offline;
    if (!given.cache.empty()) out.cache = given.cache;
    if (out.cache.empty()) out.cache = default_cache();
    return out;
}

std::optional<psp::Product> product_of(const std::string& name) {
    if (name.empty()) return std::nullopt;
    const auto product = psp::product_named(name);
    if (!product) throw Error{Fault::usage, fmt::format("--product is {}, want naples, rome, milan, genoa or turin", printable(name))};
    return product;
}

template <std::size_t Size>
ByteArray<Size> hex_option(const std::string& text, std::string_view option, std::string_view hint) {
    const auto bytes = try_unhex(text);
    if (!bytes || bytes->size() != Size)
        throw Error{Fault::usage, fmt::format("{} is {} ({} characters), want {} hex digits", option, printable(text, 40), text.size(), 2 * Size), std::string{hint}};
    ByteArray<Size> out{};
    std::ranges::copy(*bytes, out.begin());
    return out;
}

json::Value as_json(const Fetched& fetched, std::string_view what) {
    json::Value out{{"format", "xen-sev/relay-fetch"}, {"version", 1}, {"what", what}, {"outcome", name(fetched.outcome)}, {"subject", fetched.subject}};
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

void complain(std::string_view message, std::string_view hint) {
    std::fflush(stdout);
    fmt::print(stderr, "sev-relay: error: {}\n", printable(message, 8192));
    if (!hint.empty()) fmt::print(stderr, "sev-relay: hint: {}\n", printable(hint, 8192));
}

Answer report(const Fetched& fetched, std::string_view what, const Given& given) {
    if (given.as_json)
        fmt::print("{}", json::pretty(as_json(fetched, what)));
    else if (fetched.outcome != Outcome::missing)
        fmt::print("{}\n", fetched.file.string());
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw Error{Fault::system, "standard output: cannot be written"};
    if (fetched.outcome != Outcome::missing) return Answer::done;
    const std::string until = fetched.ask_again ? fmt::format("; not asked again before {}", endorsement::text(*fetched.ask_again)) : "";
    complain(fmt::format("endorsement missing: {}: {}{}", fetched.subject, fetched.reason, until),
             "a guest owner who knows this chip may pin it by the fingerprint of its CEK; see sev-relay(1), MISSING ENDORSEMENTS");
    return Answer::not_to_be_had;
}

void declare_fetch(CLI::App& app, Given& given) {
    app.add_option("--root", given.roots, "trust this root too: LABEL:PRODUCT:FINGERPRINT")->allow_extra_args(false);
    app.add_option("--cache", given.cache, "directory to keep certificates in");
    app.add_option("--config", given.configuration, fmt::format("settings (JSON; default {})", default_configuration));
    app.add_option("--cek-url", given.cek_url, "where CEKs are, with {id} in it");
    app.add_option("--ca-url", given.ca_url, "where ASK and ARK are, with {product} in it");
    app.add_option("--proxy", given.proxy, "URL of a proxy, or none");
    app.add_option("--cacert", given.cacert, "certificates (PEM) that servers are held against, instead of the system's");
    app.add_option("--deadline", given.deadline, "seconds for everything (default 60)")->check(CLI::Range(0.001, 86400.0));
    app.add_option("--attempt-timeout", given.attempt_timeout, "seconds for one request (default 15)")->check(CLI::Range(0.001, 86400.0));
    app.add_option("--back-off", given.back_off, "seconds to leave a server alone after its first failure (default 2)")->check(CLI::Range(0.001, 3600.0));
    app.add_option("--missing-hours", given.missing_hours, "hours for which a missing endorsement is not asked for again (default 24)")->check(CLI::Range(0.0001, 168.0));
    app.add_flag("--offline", given.offline, "ask no server: the cache alone");
    app.add_flag("--json", given.as_json, "print the result as JSON");
}

Answer run(int argc, char** argv) {
    CLI::App app{"sev-relay: fetches AMD's certificates for xen-sev", "sev-relay"};
    app.require_subcommand(1);
    app.set_version_flag("-V,--version", "sev-relay " XEN_SEV_VERSION " (xen-sev)");
    CLI::App& fetch = *app.add_subcommand("fetch", "fetch certificates into the cache, verified");
    fetch.require_subcommand(1);
    Given given;
    CLI::App& cek = *fetch.add_subcommand("cek", "the endorsement of one chip (CEK), and its product's ASK and ARK");
    cek.add_option("--id", given.id, "chip id: 128 hex digits, as sevctl show identifier prints it")->required();
    cek.add_option("--product", given.product, "naples, rome, milan, genoa or turin (default: the one whose ASK signed it)");
    cek.add_option("--key", given.key, "fingerprint of the CEK that the platform itself names; any other is refused");
    declare_fetch(cek, given);
    CLI::App& ca = *fetch.add_subcommand("ca", "ASK and ARK of one product");
    ca.add_option("--product", given.product, "naples, rome, milan, genoa or turin")->required();
    declare_fetch(ca, given);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return static_cast<Answer>(app.exit(error));
        throw Error{Fault::usage, error.what(), "see: sev-relay --help"};
    }

    const auto product = product_of(given.product);
    std::optional<psp::ChipId> id;
    std::optional<Digest> key;
    if (cek.parsed()) id = hex_option<64>(given.id, "--id", "sevctl show identifier prints it");
    if (!given.key.empty()) key = hex_option<32>(given.key, "--key", "sevctl verify --json shows it as the CEK's fingerprint");
    std::vector<psp::Root> roots = psp::amd_roots();
    for (const std::string& root : given.roots) roots.push_back(parse_root(root));
    const Configuration configuration = configuration_of(given);

    const endorsement::Store store{configuration.cache};
    CurlHttp http{configuration.network};
    Fetcher fetcher{store, http, system_clock(), std::move(roots), configuration.settings};
    if (id) return report(fetcher.cek(*id, product, key), "cek", given);
    if (!product) throw Error{Fault::usage, "--product is empty, want naples, rome, milan, genoa or turin"};
    return report(fetcher.ca(*product), "ca", given);
}

} // namespace
} // namespace sev::relay

int main(int argc, char** argv) {
    ::umask(022);                   // what is fetched is public, and for every user of this host
    std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of that write
    std::signal(SIGXFSZ, SIG_IGN);  // so is a file size limit
    try {
        return static_cast<int>(sev::relay::run(argc, argv));
    } catch (const sev::Error& error) {
        sev::relay::complain(error.what(), error.hint());
    } catch (const std::exception& error) {
        sev::relay::complain(fmt::format("unexpected: {}", error.what()), "this is a bug in sev-relay");
    }
    return static_cast<int>(sev::relay::Answer::trouble);
}
