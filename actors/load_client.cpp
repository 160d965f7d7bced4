#include "actors/load_client.hpp"

#include "actors/load_connection.hpp"

#include <algorithm>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

namespace moira {

namespace {

using clock_type = load_connection::clock;

/// How soon Ctrl-C and timeouts are noticed.
constexpr auto look_interval = std::chrono::milliseconds(20);

double milliseconds_between(clock_type::time_point from, clock_type::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
}

result<load_connection::endpoints> resolve(asio::io_context& io, const load_target& target) {
    asio::error_code failure;
    asio::ip::tcp::resolver resolver(io);
    const auto found = resolver.resolve(target.host, target.port, failure);
    if (failure || found.empty())
        return fail(errc::invalid_argument, "host \"" + target.host + "\" is not known: " + failure.message());
    load_connection::endpoints peers;
    for (const auto& each : found)
        peers.push_back(each.endpoint());
    return peers;
}

/// The run: hands due requests to free clients and writes down what comes back. One thread.
class load_run {
public:
    load_run(asio::io_context& io, const load_options& options, const load_plan& plan, load_connection::endpoints peers,
             const std::function<bool()>& interrupted, const load_progress_function& progress)
        : io_(io), options_(options), plan_(plan), peers_(std::move(peers)), interrupted_(interrupted),
          progress_(progress), look_timer_(io), due_timer_(io), slots_(std::min(options.clients, plan.requests)) {
        for (std::size_t i = slots_.size(); i-- > 0;)
            free_.push_back(i);
    }

    load_outcome run() {
        start_ = clock_type::now();
        for (std::size_t i = 0; i < slots_.size(); ++i)
            slots_[i].connection =
                std::make_shared<load_connection>(io_, i, options_, peers_,
                                                  [this](std::size_t index, const reply_news& news,
                                                         clock_type::time_point when) { take(index, news, when); });
        look();
        pump();
        io_.run();
        outcome_.elapsed_s = milliseconds_between(start_, ended_) / 1e3;
        return std::move(outcome_);
    }

private:
    struct slot {
        std::shared_ptr<load_connection> connection;
        clock_type::time_point began, last;
        std::uint64_t tokens = 0;
        double first_ms = 0;
        bool busy = false, started = false;
    };

    /// Failures may arrive within send(), which must not send again from inside: only the outermost call loops.
    void pump() {
        if (pumping_)
            return;
        pumping_ = true;
        while (!free_.empty() && !over_ && prepare_next() && send_next()) {
        }
        pumping_ = false;
        if (free_.size() == slots_.size() && !next_ && made_ == plan_.requests)
            finish();
    }

    bool prepare_next() {
        if (!next_ && made_ < plan_.requests)
            next_ = plan_.make(made_++);
        return next_.has_value();
    }

    /// False when the next request is not due yet: the timer will come back to it.
    bool send_next() {
        const auto now = clock_type::now();
        const auto due = next_->due ? start_ + *next_->due : now;
        if (due > now) {
            due_timer_.expires_at(due);
            due_timer_.async_wait([this](const asio::error_code& failure) {
                if (!failure)
                    pump();
            });
            return false;
        }
        auto& client = slots_[free_.back()];
        free_.pop_back();
        if (next_->due)
            outcome_.late_ms.push_back(milliseconds_between(due, now));
        client.busy = true;
        client.started = false;
        client.began = client.last = due;
        client.tokens = 0;
        const auto request = std::move(next_->request);
        next_.reset();
        client.connection->send(request);
        return true;
    }

    void take(std::size_t index, const reply_news& news, clock_type::time_point when) {
        auto& client = slots_[index];
        if (over_ || !client.busy)
            return;
        if (news.tokens > 0)
            take_tokens(client, news.tokens, when);
        if (news.state == reply_news::outcome::open)
            return;
        client.busy = false;
        free_.push_back(index);
        count_end(client, news, when);
        pump();
    }

    void take_tokens(slot& client, std::size_t count, clock_type::time_point when) {
        if (!client.started)
            client.first_ms = milliseconds_between(client.began, when);
        else
            keep_gap(milliseconds_between(client.last, when));
        for (std::size_t i = 1; i < count; ++i)
            keep_gap(0);
        client.started = true;
        client.last = when;
        client.tokens += count;
        outcome_.tokens += count;
    }

    void keep_gap(double gap_ms) {
        if (outcome_.itl_ms.size() < load_gaps_max)
            outcome_.itl_ms.push_back(gap_ms);
        else
            ++outcome_.gaps_dropped;
    }

    void count_end(const slot& client, const reply_news& news, clock_type::time_point when) {
        ended_ = std::max(ended_, when);
        // The end token has no text and some servers join tokens: their own count is the right one.
        if (news.completion_tokens > client.tokens)
            outcome_.tokens += news.completion_tokens - client.tokens;
        if (news.state == reply_news::outcome::cancelled) {
            ++outcome_.cancelled;
        } else if (news.state == reply_news::outcome::failed) {
            ++outcome_.failed;
            const bool full = outcome_.failures.size() >= failure_kinds_max && !outcome_.failures.contains(news.reason);
            ++outcome_.failures[full ? "other" : news.reason];
        } else {
            ++outcome_.completed;
            const double total_ms = milliseconds_between(client.began, when);
            outcome_.latency_ms.push_back(total_ms);
            outcome_.ttft_ms.push_back(client.started ? client.first_ms : total_ms);
        }
    }

    void look() {
        if (over_)
            return;
        const auto now = clock_type::now();
        if (interrupted_ && interrupted_())
            return interrupt(now);
        for (auto& client : slots_)
            client.connection->sweep(now);
        if (progress_)
            progress_(outcome_, slots_.size() - free_.size());
        if (over_)
            return;
        look_timer_.expires_after(look_interval);
        look_timer_.async_wait([this](const asio::error_code& failure) {
            if (!failure)
                look();
        });
    }

    void interrupt(clock_type::time_point now) {
        outcome_.interrupted = true;
        for (const auto& client : slots_)
            outcome_.cancelled += client.busy ? 1 : 0;
        outcome_.not_sent = plan_.requests - made_ + (next_ ? 1 : 0);
        ended_ = now;
        finish();
    }

    void finish() {
        if (over_)
            return;
        over_ = true;
        look_timer_.cancel();
        due_timer_.cancel();
        for (auto& client : slots_)
            client.connection->cut();
    }

    asio::io_context& io_;
    const load_options& options_;
    const load_plan& plan_;
    load_connection::endpoints peers_;
    const std::function<bool()>& interrupted_;
    const load_progress_function& progress_;
    asio::steady_timer look_timer_, due_timer_;
    std::vector<slot> slots_;
    std::vector<std::size_t> free_;
    std::optional<load_plan::entry> next_;
    std::size_t made_ = 0;
    bool over_ = false, pumping_ = false;
    clock_type::time_point start_, ended_;
    load_outcome outcome_;
};

result<load_server_facts> facts_of(const reply_news& news, const load_target& target) {
    const auto where = target.host + ":" + target.port;
    if (news.facts)
        return *news.facts;
    for (const auto code : {errc::unauthorized, errc::too_many_connections, errc::draining, errc::queue_full})
        if (news.reason == describe(code).name)
            return fail(code, where + " answers: " + news.reason);
    return fail(errc::io_error, where + ": " + (news.reason.empty() ? "no answer" : news.reason) +
                                    "; is a server running there, and does it speak this protocol?");
}

/// One question over a connection of its own.
result<load_server_facts> ask_once(const load_options& options, const std::function<bool()>& interrupted,
                                   void (load_connection::*question)()) {
    asio::io_context io;
    const auto peers = resolve(io, options.protocol.target);
    if (!peers)
        return tl::unexpected(peers.error());
    std::optional<reply_news> answer;
    const auto connection = std::make_shared<load_connection>(
        io, 0, options, *peers, [&](std::size_t, const reply_news& news, clock_type::time_point) { answer = news; });
    (*connection.*question)();
    while (!answer) {
        if (interrupted && interrupted())
            break;
        io.restart();
        io.run_for(look_interval);
        connection->sweep(clock_type::now());
    }
    connection->cut();
    io.restart();
    io.run();
    if (!answer)
        return fail(errc::cancelled, "interrupted before the server answered");
    return facts_of(*answer, options.protocol.target);
}

} // namespace

result<load_server_facts> ask_load_target(const load_options& options, const std::function<bool()>& interrupted) {
    return ask_once(options, interrupted, &load_connection::ask_facts);
}

std::shared_ptr<const runtime_statistics> ask_load_statistics(const load_options& options,
                                                              const std::function<bool()>& interrupted) {
    const auto told = ask_once(options, interrupted, &load_connection::ask_statistics);
    return told ? told->statistics : nullptr;
}

result<load_outcome> run_load(const load_options& options, const load_plan& plan,
                              const std::function<bool()>& interrupted, const load_progress_function& progress) {
    if (plan.requests == 0 || plan.requests > load_requests_max || options.clients == 0 ||
        options.clients > load_clients_max)
        return fail(errc::invalid_argument, std::to_string(plan.requests) + " requests of " +
                                                std::to_string(options.clients) + " clients: 1 to " +
                                                std::to_string(load_requests_max) + " and 1 to " +
                                                std::to_string(load_clients_max) + " are possible");
    asio::io_context io;
    auto peers = resolve(io, options.protocol.target);
    if (!peers)
        return tl::unexpected(peers.error());
    return load_run(io, options, plan, std::move(*peers), interrupted, progress).run();
}

} // namespace moira
