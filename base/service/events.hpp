// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace sev::service {

/// One server-sent event: https://html.spec.whatwg.org/multipage/server-sent-events.html. `id` counts from 1 in each run of the program.
struct Event {
    std::uint64_t id = 0;
    std::string type; // one word: "launch"
    std::string data; // without line breaks: JSON
    /// "id: 7\nevent: launch\ndata: {…}\n\n".
    std::string wire() const;
    friend bool operator==(const Event&, const Event&) = default;
};

/// What one listener has not yet been sent. Bounded: a listener that does not keep up is cut off, and nobody waits for it. Thread-safe.
class Subscription {
public:
    static constexpr std::size_t backlog_limit = 1024;
    /// The next event; nullopt when there is none now.
    std::optional<Event> take();
    /// It fell behind or the hub is gone: nothing more will come.
    bool ended() const;
    /// `wake` is called, from any thread, when there is something to take or the end has come. It must not block, nor call back in here.
    void on_ready(std::function<void()> wake);

private:
    friend class EventHub;
    void offer(const Event& event);
    void end();
    mutable std::mutex mutex_;
    std::deque<Event> waiting_;
    std::function<void()> wake_;
    bool ended_ = false;
};

/// Gives each published event to every listener. Thread-safe; `publish` never blocks on a listener.
class EventHub {
public:
    static constexpr std::size_t history_limit = 256;
    EventHub() = default;
    EventHub(const EventHub&) = delete;
    EventHub& operator=(const EventHub&) = delete;
    ~EventHub();
    /// Returns the event's id. `data` must be free of line breaks; throws Error{Fault::bug} otherwise.
    std::uint64_t publish(std::string type, std::string data);
    /// From now on; with `after`, also what the history still has above that id.
    std::shared_ptr<Subscription> subscribe(std::optional<std::uint64_t> after = std::nullopt);
    /// Every subscription ends; later ones end at once.
    void close();
    std::size_t listeners() const;

private:
    mutable std::mutex mutex_;
    std::deque<Event> history_;
    std::vector<std::weak_ptr<Subscription>> listeners_;
    std::uint64_t last_id_ = 0;
    bool closed_ = false;
};

} // namespace sev::service
