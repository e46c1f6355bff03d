// SPDX-License-Identifier: Apache-2.0
// The asking end of xen-sev-keeper. One line of JSON a question, one an answer: {"ok": …} or {"error": TEXT}.
#include <mutex>

#include <fmt/format.h>

#include "base/crypto.hpp"
#include "launch/xen/child.hpp"
#include "launch/xen/toolstack.hpp"
#include "launch/xen/vcpu_context.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t answer_limit = 2 * context_limit_bytes;
constexpr std::size_t config_limit = 1U << 20;
constexpr unsigned protocol = 1;

Deadline in(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

class Keeper {
public:
    Keeper(const KeeperOptions& options, const std::shared_ptr<Starter>& starter) : Keeper{options, starter, options.deadline} {}
    Keeper(const KeeperOptions& options, const std::shared_ptr<Starter>& starter, std::chrono::milliseconds time)
        : options_{options}, starter_{starter}, child_{std::in_place, *starter, options.program, std::vector<std::string>{}} {
        const json::Value hello = answer(said(in(time)));
        if (hello.value("protocol", 0U) != protocol)
            throw Error{Fault::system, fmt::format("xen-sev-keeper: protocol is {}, want {}", hello.value("protocol", 0U), protocol),
                        "it is of another version of xen-sev than this program"};
    }
    json::Value ask(json::Value question) { return ask(std::move(question), options_.deadline); }
    json::Value ask(json::Value question, std::chrono::milliseconds time) {
        const std::scoped_lock lock{mutex_};
        if (!child_) throw Error{Fault::system, "xen-sev-keeper: is not asked any more: " + trouble_};
        json::Value reply;
        try {
            const Deadline deadline = in(time);
            child_->write(question.dump() + "\n", deadline);
            reply = said(deadline);
        } catch (const Error& error) {
            // what it says later would be taken for the answer to another question
            trouble_ = error.what();
            child_.reset();
            throw;
        }
        return answer(reply);
    }
    std::unique_ptr<Keeper> another(std::chrono::milliseconds time) const { return std::make_unique<Keeper>(options_, starter_, time); }
    const KeeperOptions& options() const noexcept { return options_; }

private:
    json::Value said(Deadline deadline) {
        return json::parse(child_->line(answer_limit, deadline), "xen-sev-keeper", {.bytes = answer_limit, .depth = 16});
    }
    static json::Value answer(const json::Value& reply) {
        json::Object object{reply, "xen-sev-keeper"};
        if (object.has("error")) throw Error{Fault::system, printable(object.string("error", 4096), 1024)};
        json::Value out = object.at("ok");
        object.done();
        return out;
    }
    KeeperOptions options_;
    std::shared_ptr<Starter> starter_;
    std::mutex mutex_;
    std::optional<Child> child_; // none: it failed once
    std::string trouble_;
};

class KeptDomain final : public Domain {
public:
    KeptDomain(std::unique_ptr<Keeper> keeper, const DomainState& state, bool held)
        : keeper_{std::move(keeper)}, domid_{state.domid}, uuid_{state.uuid}, held_{held} {}
    DomainState state() override {
        const json::Value now = keeper_->ask({{"do", "state"}});
        if (now.is_null()) throw Error{Fault::system, fmt::format("domain {}: is gone", domid_)};
        return DomainState::from_json(now, "domain state");
    }
    std::optional<DomainState> find() override {
        const std::chrono::milliseconds time = keeper_->options().find_deadline;
        json::Value now;
        try {
            now = keeper_->ask({{"do", "state"}}, time);
        } catch (const Error&) {
            auto other = keeper_->another(time);
            now = other->ask(adoption(held_), time);
            keeper_ = std::move(other);
        }
        if (now.is_null()) return std::nullopt;
        return DomainState::from_json(now, "domain state");
    }
    std::string config() override { return keeper_->ask({{"do", "config"}}).get<std::string>(); }
    Bytes context() override { return unbase64(keeper_->ask({{"do", "context"}}).get<std::string>(), "domain context"); }
    std::optional<ModulePlace> smbios_module() override {
        const json::Value place = keeper_->ask({{"do", "smbios"}});
        if (place.is_null()) return std::nullopt;
        json::Object object{place, "SMBIOS module"};
        const ModulePlace out{.gpa = object.number("address", ~std::uint64_t{0}), .length_bytes = object.number("length", ~std::uint64_t{0})};
        object.done();
        return out;
    }
    void unpause() override {
        keeper_->ask({{"do", "unpause"}});
        held_ = false;
    }
    void let_go() override {
        keeper_->ask({{"do", "let_go"}});
        held_ = false;
    }
    void destroy() override {
        try {
            keeper_->ask({{"do", "destroy"}});
            return;
        } catch (const Error&) {
            // the keeper may be gone; another can do it
        }
        const auto other = keeper_->another(keeper_->options().deadline);
        if (!other->ask(adoption(true)).is_null()) other->ask({{"do", "destroy"}});
    }

private:
    json::Value adoption(bool hold) const { return {{"do", "adopt"}, {"domid", domid_}, {"uuid", uuid_}, {"hold", hold}}; }
    std::unique_ptr<Keeper> keeper_;
    std::uint32_t domid_;
    std::string uuid_;
    bool held_; // to be destroyed unless it is let run
};

class KeeperToolstack final : public Toolstack {
public:
    KeeperToolstack(KeeperOptions options, std::shared_ptr<Starter> starter) : options_{std::move(options)}, starter_{std::move(starter)} {}

    measure::XenVersion version() override {
        const std::scoped_lock lock{mutex_};
        if (!version_) version_ = measure::XenVersion::parse(Keeper{options_, starter_}.ask({{"do", "version"}}).get<std::string>(), "Xen's version");
        return *version_;
    }
    std::string read_xl_config(const Path& file) override {
        Child xl{*starter_, options_.xl, {"create", "-n", "-q", file.string()}};
        xl.close_input();
        const Deadline deadline = in(options_.deadline);
        std::string text = xl.all(config_limit, deadline);
        const auto begin = text.find('{'); // it prints nothing else of use, and nothing at all when it refuses
        if (begin == std::string::npos)
            throw Error{Fault::malformed, fmt::format("{}: xl refuses it: {}", printable(file.string(), 4096), xl.complaint())};
        return text.substr(begin);
    }
    std::unique_ptr<Domain> create(const std::string& libxl_json) override {
        auto keeper = std::make_unique<Keeper>(options_, starter_);
        const auto state = DomainState::from_json(keeper->ask({{"do", "create"}, {"config", libxl_json}}, options_.create_deadline), "new domain");
        return std::make_unique<KeptDomain>(std::move(keeper), state, true);
    }
    std::unique_ptr<Domain> adopt(std::uint32_t domid, bool hold) override { return adopted({{"do", "adopt"}, {"domid", domid}}, hold); }
    std::unique_ptr<Domain> adopt(const std::string& uuid, bool hold) override { return adopted({{"do", "adopt"}, {"uuid", uuid}}, hold); }
    std::unique_ptr<Domain> adopt(std::uint32_t domid, const std::string& uuid, bool hold) override {
        return adopted({{"do", "adopt"}, {"domid", domid}, {"uuid", uuid}}, hold);
    }

private:
    std::unique_ptr<Domain> adopted(json::Value question, bool hold) {
        question["hold"] = hold;
        auto keeper = std::make_unique<Keeper>(options_, starter_);
        const json::Value answer = keeper->ask(std::move(question));
        if (answer.is_null()) return nullptr;
        return std::make_unique<KeptDomain>(std::move(keeper), DomainState::from_json(answer, "domain"), hold);
    }
    KeeperOptions options_;
    std::shared_ptr<Starter> starter_;
    std::mutex mutex_;
    std::optional<measure::XenVersion> version_;
};

} // namespace

DomainState DomainState::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    DomainState out;
    out.domid = static_cast<std::uint32_t>(object.number("domid", 0x7FF0));
    out.uuid = object.string("uuid", 64);
    out.type = object.string("type", 16);
    out.paused = object.boolean("paused");
    out.shutdown = object.boolean("shutdown");
    out.dying = object.boolean("dying");
    out.has_run = object.boolean("has_run");
    out.pages = object.number("pages", ~std::uint64_t{0});
    out.vcpus = static_cast<unsigned>(object.number("vcpus", 4096));
    out.online = static_cast<unsigned>(object.number("online", 4096));
    object.done();
    return out;
}

std::string random_uuid() {
    ByteArray<16> bytes{};
    random_bytes(bytes);
    bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0F) | 0x40);
    bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3F) | 0x80);
    std::string text = hex(bytes);
    for (const std::size_t at : {8U, 13U, 18U, 23U}) text.insert(at, "-");
    return text;
}

std::unique_ptr<Toolstack> keeper_toolstack(KeeperOptions options, std::shared_ptr<Starter> starter) {
    return std::make_unique<KeeperToolstack>(std::move(options), std::move(starter));
}

} // namespace sev::launch::xen
