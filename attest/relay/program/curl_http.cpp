// SPDX-License-Identifier: Apache-2.0
#include "attest/relay/program/curl_http.hpp"

#include <algorithm>
#include <array>
#include <memory>

#include <curl/curl.h>
#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::relay {
namespace {

constexpr std::size_t header_limit_bytes = 64 << 10;
constexpr long redirect_limit = 3;

struct CurlFree {
    void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};

/// One transfer as it arrives. The callbacks are called from C: nothing leaves them but a count.
struct Transfer {
    std::size_t limit_bytes;
    Bytes body;
    std::size_t header_bytes = 0;
    std::optional<std::string> retry_after;
    bool body_too_long = false, headers_too_long = false;
};

std::size_t take_body(char* data, std::size_t one, std::size_t count, void* to) noexcept {
    auto& transfer = *static_cast<Transfer*>(to);
    const std::size_t size_bytes = one * count;
    if (size_bytes > transfer.limit_bytes - transfer.body.size()) {
        transfer.body_too_long = true;
        return CURL_WRITEFUNC_ERROR;
    }
    try {
        transfer.body.insert(transfer.body.end(), data, data + size_bytes);
    } catch (...) {
        return CURL_WRITEFUNC_ERROR; // out of memory for some 3000 bytes
    }
    return size_bytes;
}

std::size_t take_header(char* data, std::size_t one, std::size_t count, void* to) noexcept {
    auto& transfer = *static_cast<Transfer*>(to);
    const std::size_t size_bytes = one * count;
    transfer.header_bytes += size_bytes;
    if (transfer.header_bytes > header_limit_bytes) {
        transfer.headers_too_long = true;
        return 0;
    }
    constexpr std::string_view wanted = "retry-after:";
    std::string_view line{data, size_bytes};
    const auto same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); };
    try {
        if (line.starts_with("HTTP/")) { // a new response begins: what the redirect before it said is no longer of interest
            transfer.retry_after.reset();
            transfer.body.clear();
        } else if (line.size() > wanted.size() && std::ranges::equal(wanted, line.substr(0, wanted.size()), same)) {
            line.remove_prefix(wanted.size());
            while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
            transfer.retry_after = std::string{line.substr(0, 128)};
        }
    } catch (...) {
        return 0;
    }
    return size_bytes;
}

template <class Value>
void set(CURL* handle, CURLoption option, Value value) {
    if (const CURLcode code = curl_easy_setopt(handle, option, value); code != CURLE_OK)
        throw Error{Fault::system, fmt::format("libcurl: option {}: {}", static_cast<int>(option), curl_easy_strerror(code))};
}

void configure(CURL* handle, const Network& network) {
    set(handle, CURLOPT_NOSIGNAL, 1L);
    set(handle, CURLOPT_PROTOCOLS_STR, "https");
    set(handle, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    set(handle, CURLOPT_FOLLOWLOCATION, 1L);
    set(handle, CURLOPT_MAXREDIRS, redirect_limit);
    set(handle, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(handle, CURLOPT_SSL_VERIFYPEER, 1L);
    set(handle, CURLOPT_SSL_VERIFYHOST, 2L);
    set(handle, CURLOPT_PROXY, network.proxy.c_str()); // "" also keeps libcurl from asking the environment
    set(handle, CURLOPT_NOPROXY, network.no_proxy.c_str());
    set(handle, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    set(handle, CURLOPT_USERAGENT, network.user_agent.c_str());
    if (!network.ca_file.empty()) {
        set(handle, CURLOPT_CAINFO, network.ca_file.c_str());
        set(handle, CURLOPT_CAPATH, static_cast<const char*>(nullptr)); // these alone, not the system's beside them
    }
    if (!network.certificate.empty()) {
        set(handle, CURLOPT_SSLCERT, network.certificate.c_str());
        set(handle, CURLOPT_SSLKEY, network.key.c_str());
    }
}

/// What somebody can do about it depends on what was asked.
struct Hints {
    std::string_view too_long, tls, broken;
};

/// A proxy that would not open the way: the request left nowhere, and a gateway that found nobody may find somebody later.
NoAnswer refused_by_proxy(long status) {
    constexpr std::array<long, 3> nobody_there{502, 503, 504};
    const bool absent = std::ranges::find(nobody_there, status) != nobody_there.end();
    std::string_view hint = "the proxy does not let us through to this host: check its rules, or name the host in no_proxy";
    if (status == 407)
        hint = "the proxy wants a name and password: set proxy to http://NAME:PASSWORD@HOST:PORT in a settings file that is ours alone";
    if (absent) hint = "the proxy cannot reach the host: check the URL, or name the host in no_proxy";
    return {fmt::format("the proxy answered with status {}", status), std::string{hint}, absent, false};
}

NoAnswer no_answer(CURLcode code, const Transfer& transfer, const char* detail, const Hints& hints) {
    if (transfer.body_too_long) return {fmt::format("the body is longer than {} bytes", transfer.limit_bytes), std::string{hints.too_long}, false};
    if (transfer.headers_too_long) return {fmt::format("the headers are longer than {} bytes", header_limit_bytes), {}, false};
    const std::string reason = printable(detail[0] ? detail : curl_easy_strerror(code));
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST: return {reason, {}, true, false};
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE: return {reason, std::string{code == CURLE_OPERATION_TIMEDOUT ? "" : hints.broken}, true};
    case CURLE_SSL_CERTPROBLEM: throw Error{Fault::system, reason, "--cert and --key must be a certificate and its private key, in PEM"};
    case CURLE_SSL_CACERT_BADFILE: throw Error{Fault::system, reason, "name a readable PEM file with --cacert"};
    case CURLE_PEER_FAILED_VERIFICATION:
        return {reason, "the server is not who it should be; behind a proxy that opens TLS, name its CA with --cacert", false};
    case CURLE_SSL_CONNECT_ERROR: return {reason, std::string{hints.tls}, false};
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY: return {reason, "check --proxy, or https_proxy in the environment", false};
    case CURLE_UNSUPPORTED_PROTOCOL: return {reason, "only https is asked, and followed", false};
    case CURLE_TOO_MANY_REDIRECTS: return {reason, fmt::format("at most {} redirects are followed", redirect_limit), false};
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT: throw Error{Fault::system, fmt::format("libcurl: {}", reason)};
    default: return {reason, {}, false};
    }
}

} // namespace

CurlHttp::CurlHttp(Network network) : network_{std::move(network)} {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) throw Error{Fault::system, "libcurl cannot be initialised"};
}
CurlHttp::~CurlHttp() { curl_global_cleanup(); }

namespace {

std::string media_type(CURL* handle) {
    const char* text = nullptr;
    if (curl_easy_getinfo(handle, CURLINFO_CONTENT_TYPE, &text) != CURLE_OK || !text) return {};
    std::string out{std::string_view{text}.substr(0, 128)};
    out.resize(std::min(out.size(), out.find(';')));
    while (out.ends_with(' ')) out.pop_back();
    std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return out;
}

/// What a GET and a POST have in common, from the URL on.
std::variant<Response, NoAnswer> perform(CURL* handle, const std::string& url, std::size_t limit_bytes, std::chrono::milliseconds timeout,
                                         const Hints& hints) {
    Transfer transfer{.limit_bytes = limit_bytes, .body = {}, .retry_after = {}};
    std::array<char, CURL_ERROR_SIZE> detail{};
    set(handle, CURLOPT_ERRORBUFFER, detail.data());
    set(handle, CURLOPT_URL, url.c_str());
    set(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<std::int64_t>(timeout.count(), 1))); // 0 would mean none
    set(handle, CURLOPT_WRITEFUNCTION, &take_body);
    set(handle, CURLOPT_WRITEDATA, &transfer);
    set(handle, CURLOPT_HEADERFUNCTION, &take_header);
    set(handle, CURLOPT_HEADERDATA, &transfer);
    const CURLcode code = curl_easy_perform(handle);
    if (code != CURLE_OK) {
        long proxy_status = 0;
        if (curl_easy_getinfo(handle, CURLINFO_HTTP_CONNECTCODE, &proxy_status) == CURLE_OK && proxy_status >= 300)
            return refused_by_proxy(proxy_status);
        return no_answer(code, transfer, detail.data(), hints);
    }
    long status = 0;
    if (curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status <= 0) return NoAnswer{"no HTTP status", {}, false};
    return Response{.status = static_cast<unsigned>(status),
                    .body = std::move(transfer.body),
                    .retry_after = std::move(transfer.retry_after),
                    .content_type = media_type(handle)};
}

std::unique_ptr<CURL, CurlFree> open_handle(const Network& network) {
    std::unique_ptr<CURL, CurlFree> handle{curl_easy_init()};
    if (!handle) throw Error{Fault::system, "libcurl cannot be initialised"};
    configure(handle.get(), network);
    return handle;
}

} // namespace

std::variant<Response, NoAnswer> CurlHttp::get(const std::string& url, std::size_t limit_bytes, std::chrono::milliseconds timeout) {
    const auto handle = open_handle(network_);
    return perform(handle.get(), url, limit_bytes, timeout,
                   {.too_long = "no certificate is that long: nothing was stored", .tls = "the server must speak TLS 1.2 or newer", .broken = ""});
}

std::variant<Response, NoAnswer> CurlHttp::post(const std::string& url, ByteView body, std::size_t limit_bytes, std::chrono::milliseconds timeout) {
    const auto handle = open_handle(network_);
    set(handle.get(), CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_3));
    set(handle.get(), CURLOPT_FOLLOWLOCATION, 0L);
    std::unique_ptr<curl_slist, CurlFree> headers;
    for (const char* const line : {"Content-Type: application/json", "Accept: application/jose, application/problem+json", "Expect:"}) {
        curl_slist* const longer = curl_slist_append(headers.get(), line);
        if (!longer) throw Error{Fault::system, "libcurl: out of memory"};
        static_cast<void>(headers.release());
        headers.reset(longer);
    }
    set(handle.get(), CURLOPT_HTTPHEADER, headers.get());
    set(handle.get(), CURLOPT_POST, 1L);
    set(handle.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(handle.get(), CURLOPT_POSTFIELDS, as_text(body).data());
    // TLS 1.3 lets a client without a certificate begin to speak, and then hangs up on it
    const std::string_view nameless = "no client certificate was given, and an owner's service wants one: --cert and --key";
    return perform(handle.get(), url, limit_bytes, timeout,
                   {.too_long = "no owner's answer is that long: is this an owner's service?",
                    .tls = "the owner's service must speak TLS 1.3",
                    .broken = network_.certificate.empty() ? nameless : ""});
}

} // namespace sev::relay
