// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/page.hpp"
#include "tests/owner/support.hpp"

using namespace sev;
using namespace sev::attest;
using namespace sev::attest::owner;
using sev::test::june;

namespace {

/// What would break out of an element, an attribute or a tag, were it not escaped.
constexpr std::string_view hostile = R"(<script>alert(1)</script>"><img src=x onerror=alert(2)>'&amp;)";

bool inert(const std::string& html) {
    return html.find("<script") == std::string::npos && html.find("<img") == std::string::npos &&
           html.find("onerror=alert(2)>'") == std::string::npos;
}

SessionSummary session(SessionState state, std::string_view name) {
    SessionSummary out;
    out.id = random_array<16>();
    out.state = state;
    out.channel = "uid:0";
    out.launch_name = name;
    out.policy_name = "web";
    out.created_at = out.expires_at = june;
    out.platform = test::FixtureLaunch{}.bundle.platform.to_json().dump();
    return out;
}

} // namespace

TEST_CASE("page: text is escaped, and made printable") {
    CHECK(escaped(R"(<a href="x">&'</a>)") == "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;");
    CHECK(escaped("a\n\x1b[31m") == "a\\x0a\\x1b[31m");
}

TEST_CASE("page: hostile names are inert everywhere") {
    OverviewData data;
    data.owner = hostile;
    data.now = june;
    for (const auto state : {SessionState::open, SessionState::taken, SessionState::trusted, SessionState::not_trusted, SessionState::troubled,
                             SessionState::expired, SessionState::refused}) {
        auto one = session(state, hostile);
        one.policy_name = one.channel = hostile;
        CHECK(inert(session_page(one)));
        one.result = R"({"checks":[{"check":"<script>","passed":false,"detail":"<img src=x>"}]})";
        one.attestation_result = hostile;
        CHECK(inert(session_page(one)));
        one.platform = hostile;
        CHECK(inert(session_page(one)));
        data.sessions.push_back(one);
    }
    data.policies.push_back({.name = std::string{hostile}, .snapshot = nullptr, .problem = std::string{hostile}});
    CHECK(inert(overview_page(data)));
    CHECK(inert(missing_page(hostile)));
    PolicySnapshot snapshot{
        .name = std::string{hostile}, .policy = OwnerPolicy::load(test::fixture("attest/owner-policy.json")), .references = {}, .digest = {}};
    snapshot.policy.owner = hostile;
    snapshot.policy.secrets.at(0).name = hostile;
    snapshot.policy.other_roots.at(0).label = hostile;
    snapshot.references.push_back({.name = std::string{hostile},
                                   .digest = {},
                                   .regions = {{.label = std::string{hostile}, .gpa = {}, .length_bytes = 1, .sha256 = {}, .source = {}}},
                                   .secret_block = {},
                                   .uncovered = {std::string{hostile}}});
    CHECK(inert(policy_page(snapshot)));
}

TEST_CASE("page: it says which of how many launches it shows, and leads to the others; platforms are a list of their own") {
    OverviewData data;
    data.now = june;
    CHECK(overview_page(data).find("Newest") == std::string::npos);
    data.counts.trusted = 1;
    data.counts.refused = 249;
    for (int i = 0; i < 100; ++i) data.sessions.push_back(session(SessionState::refused, "flood"));
    data.platforms = {session(SessionState::trusted, "quiet")};
    std::string html = overview_page(data);
    CHECK(html.find("Newest 100 of 250.") != std::string::npos);
    CHECK(html.find(R"(<a href="/?offset=100#launches">Older</a>)") != std::string::npos);
    CHECK(html.find(R"(<a href="/?state=trusted#launches">trusted</a>)") != std::string::npos);
    CHECK(html.find("state=open") == std::string::npos); // there is none
    CHECK(html.find(">accepted<") != std::string::npos); // of the platforms, not of the launches shown
    CHECK(html.find("at times refused") == std::string::npos);
    data.state = SessionState::refused;
    data.offset = 200;
    data.sessions.resize(49);
    html = overview_page(data);
    CHECK(html.find("201 to 249 of 249, newest first: platform refused.") != std::string::npos);
    CHECK(html.find(">Older<") == std::string::npos);
    CHECK(html.find(R"(<a href="/?state=refused#launches">Newest</a>)") != std::string::npos);
    CHECK(html.find(R"(<a href="/#launches">All</a>)") != std::string::npos);
    data.offset = 100;
    data.sessions.resize(100, session(SessionState::refused, "flood"));
    CHECK(overview_page(data).find(R"(<a href="/?state=refused&amp;offset=200#launches">Older</a>)") != std::string::npos);
}

TEST_CASE("page: a verdict shows every check, its weaknesses, and what it is") {
    const test::FixtureLaunch launch;
    auto one = session(SessionState::trusted, "vault");
    const Verdict verdict = launch.judge().verdict;
    one.result = verdict.to_json().dump();
    const std::string html = session_page(one);
    for (const auto& check : verdict.checks) CHECK(html.find(escaped(check.check)) != std::string::npos);
    for (const auto& finding : verdict.advisories) CHECK(html.find(escaped(finding.id)) != std::string::npos);
    CHECK(html.find("emulated PSP") != std::string::npos);
    CHECK(html.find("L1") != std::string::npos);
    CHECK(html.find("FAIL") == std::string::npos);
    // nothing that runs, and nothing from elsewhere
    for (const char* none : {"<script", "http://", "https://", " on", "style=", "javascript:"}) {
        INFO(none);
        const auto at = html.find(none);
        const bool attribute = std::string_view{none} == " on" && (at == std::string::npos || html.find('=', at) > html.find(' ', at + 1));
        CHECK((at == std::string::npos || attribute));
    }
}

TEST_CASE("page: advisories by id, text and remedy") {
    const std::string html = advisories_page(builtin_advisories());
    for (const Advisory& advisory : builtin_advisories().list) {
        CHECK(html.find(escaped(advisory.id)) != std::string::npos);
        CHECK(html.find(escaped(advisory.remedy)) != std::string::npos);
    }
}
