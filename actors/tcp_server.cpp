#include "actors/tcp_server.hpp"

#include "actors/tcp_connection.hpp"
#include "actors/tcp_listener.hpp"

#include <algorithm>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <atomic>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <variant>

namespace moira {

namespace {

using statistics_result = result<std::shared_ptr<const runtime_statistics>>;

/// What the runtime answers to a connection's question.
struct runtime_answer {
    std::uint64_t ticket;
    std::variant<statistics_result, result<text_answer>> what;
};

using output_batch_list = std::vector<std::shared_ptr<const output_batch>>;
using connection_map = std::unordered_map<std::uint64_t, std::shared_ptr<tcp_connection>>;

/// Connections leave the map while they are visited.
std::vector<std::shared_ptr<tcp_connection>> listed(const connection_map& connections) {
    std::vector<std::shared_ptr<tcp_connection>> all;
    all.reserve(connections.size());
    for (const auto& [number, connection] : connections)
        all.push_back(connection);
    return all;
}

} // namespace

class tcp_server::impl final : public connection_host {
public:
    impl(const tcp_limits& limits, session_factory sessions, request_port& port);
    ~impl() override { stop(); }

    result<void> listen(std::string_view address);
    const std::string& address() const noexcept { return address_; }
    void put(std::shared_ptr<const output_batch> news);
    void put(runtime_answer answer);
    void use_port(request_port& port, const std::function<void()>& first);
    void drain(std::function<void()> done);
    void stop();
    tcp_statistics statistics() const { return {connection_count_, request_count_, accepted_, refused_, closed_slow_}; }

    void submit(std::uint64_t connection, std::uint64_t tag, std::shared_ptr<const generation_input> input) override;
    void cancel(std::uint64_t tag) override { port_->cancel(tag); }
    void abandon(std::uint64_t tag) override;
    void request_statistics(std::uint64_t connection) override { port_->request_statistics(connection); }
    void inject_fault(const std::string& part) override { port_->inject_fault(part); }
    void request_text(std::uint64_t connection, text_question question) override;
    void forget(std::uint64_t connection, bool slow) override;

private:
    using clock = tcp_connection::clock;

    void wake();
    void take_outbox();
    void spread(const output_batch_list& news);
    void spread(const std::vector<runtime_answer>& answers);
    std::shared_ptr<tcp_connection> find(std::uint64_t number) const;
    void end_route(std::uint64_t tag);
    void accepted(asio::ip::tcp::socket socket);
    void sweep_later();
    void sweep();
    void begin_drain();
    void enforce_drain(clock::time_point now);
    void end_drain();
    void tell_drained();
    void close_all();

    // Read by every thread, never changed after the start.
    tcp_limits limits_;
    session_factory sessions_;
    std::string address_;

    // The outbox: other threads put, the server's thread takes. `stopped_` also decides who calls a late drain's
    // `done`.
    std::mutex mutex_;
    output_batch_list news_;
    std::vector<runtime_answer> answers_;
    std::vector<std::function<void()>> drained_;
    bool posted_ = false, stopped_ = false;

    // The server's thread alone.
    request_port* port_;
    asio::io_context io_{1};
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    tcp_listener listener_;
    asio::steady_timer sweep_timer_;
    tag_counter tags_;
    std::uint64_t connections_made_ = 0;
    std::size_t texts_waiting_ = 0;
    connection_map connections_, refusals_;
    std::unordered_map<std::uint64_t, std::uint64_t> routes_; // tag -> connection
    bool draining_ = false, drain_expired_ = false, closing_ = false;
    clock::time_point drain_deadline_;

    // Written by the server's thread, read by all.
    std::atomic<std::size_t> connection_count_{0}, request_count_{0};
    std::atomic<std::uint64_t> accepted_{0}, refused_{0}, closed_slow_{0};

    std::thread thread_;
};

tcp_server::impl::impl(const tcp_limits& limits, session_factory sessions, request_port& port)
    : limits_(limits), sessions_(std::move(sessions)), port_(&port), work_(io_.get_executor()),
      listener_(io_, limits.accept_pause, [this](asio::ip::tcp::socket socket) { accepted(std::move(socket)); }),
      sweep_timer_(io_) {
    // Answers to one read must not look like a slow reader's backlog.
    const auto pause_max = limits_.write_queue_bytes_max / 4;
    limits_.lines.output_bytes_pause = std::min(limits_.lines.output_bytes_pause, pause_max);
    limits_.http.output_bytes_pause = std::min(limits_.http.output_bytes_pause, pause_max);
}

result<void> tcp_server::impl::listen(std::string_view address) {
    auto bound = listener_.open(address);
    if (!bound)
        return tl::unexpected<error>(std::move(bound.error()));
    address_ = std::move(*bound);
    listener_.accept();
    sweep_later();
    thread_ = std::thread([this] { io_.run(); });
    return {};
}

void tcp_server::impl::use_port(request_port& port, const std::function<void()>& first) {
    std::promise<void> changed;
    {
        const std::lock_guard lock(mutex_);
        if (stopped_)
            return;
        // Before anything that stop() posts: it is run in any case.
        asio::post(io_, [&] {
            first();
            port_ = &port;
            changed.set_value();
        });
    }
    changed.get_future().wait();
}

void tcp_server::impl::put(std::shared_ptr<const output_batch> news) {
    const std::lock_guard lock(mutex_);
    news_.push_back(std::move(news));
    wake();
}

void tcp_server::impl::put(runtime_answer answer) {
    const std::lock_guard lock(mutex_);
    answers_.push_back(std::move(answer));
    wake();
}

/// One post per burst: all that is put before the server's thread gets to it travels together. The mutex is held.
void tcp_server::impl::wake() {
    if (stopped_ || posted_)
        return;
    posted_ = true;
    asio::post(io_, [this] { take_outbox(); });
}

void tcp_server::impl::take_outbox() {
    output_batch_list news;
    std::vector<runtime_answer> answers;
    {
        const std::lock_guard lock(mutex_);
        news.swap(news_);
        answers.swap(answers_);
        posted_ = false;
    }
    spread(news);
    spread(answers);
}

void tcp_server::impl::spread(const output_batch_list& news) {
    // Only final lines carry the counters, and reading them takes the store's lock.
    expert_store_statistics experts;
    bool counted = false;
    std::vector<std::shared_ptr<tcp_connection>> touched;
    for (const auto& batch : news)
        for (const auto& event : batch->events) {
            const auto route = routes_.find(event.tag);
            if (route == routes_.end())
                continue;
            const auto connection = connections_.at(route->second); // leaves the map only after its routes
            if (event.finished) {
                end_route(event.tag);
                if (!std::exchange(counted, true))
                    experts = port_->expert_statistics();
            }
            connection->deliver(event, experts);
            if (touched.empty() || touched.back() != connection)
                touched.push_back(connection);
        }
    for (const auto& connection : touched)
        connection->flush();
}

void tcp_server::impl::spread(const std::vector<runtime_answer>& answers) {
    for (const auto& answer : answers) {
        const auto* const text = std::get_if<result<text_answer>>(&answer.what);
        if (text != nullptr)
            --texts_waiting_;
        const auto connection = find(answer.ticket);
        if (!connection)
            continue;
        if (text != nullptr)
            connection->deliver_text(*text);
        else
            connection->deliver_statistics(std::get<statistics_result>(answer.what), statistics());
        connection->flush();
    }
}

std::shared_ptr<tcp_connection> tcp_server::impl::find(std::uint64_t number) const {
    for (const auto* const map : {&connections_, &refusals_})
        if (const auto found = map->find(number); found != map->end())
            return found->second;
    return nullptr;
}

void tcp_server::impl::submit(std::uint64_t connection, std::uint64_t tag,
                              std::shared_ptr<const generation_input> input) {
    routes_.emplace(tag, connection);
    request_count_ = routes_.size();
    port_->submit(tag, std::move(input));
}

void tcp_server::impl::request_text(std::uint64_t connection, text_question question) {
    // A client that asks and leaves must not pile up work. The answer comes later in both cases: the session is in the
    // middle of its message now.
    if (++texts_waiting_ > limits_.texts_waiting_max)
        return put(runtime_answer{
            connection, result<text_answer>(fail(errc::queue_full, "too many texts wait for the tokenizer"))});
    port_->request_text(connection, std::move(question));
}

void tcp_server::impl::end_route(std::uint64_t tag) {
    routes_.erase(tag);
    request_count_ = routes_.size();
}

void tcp_server::impl::abandon(std::uint64_t tag) {
    end_route(tag);
    port_->cancel(tag);
}

void tcp_server::impl::forget(std::uint64_t connection, bool slow) {
    refusals_.erase(connection);
    connections_.erase(connection);
    connection_count_ = connections_.size();
    if (slow)
        ++closed_slow_;
    if (draining_ && connections_.empty())
        end_drain();
}

void tcp_server::impl::accepted(asio::ip::tcp::socket socket) {
    const bool full = connections_.size() >= limits_.connections_max;
    if (full || draining_)
        ++refused_;
    else
        ++accepted_;
    if ((full || draining_) && refusals_.size() >= limits_.refusals_max)
        return;
    const auto number = ++connections_made_;
    auto connection =
        std::make_shared<tcp_connection>(std::move(socket), number, limits_, sessions_(limits_, tags_), *this);
    // Nothing waits for these: they hear from their session that the server drains, and go after drain_grace.
    if (draining_) {
        refusals_.emplace(number, connection);
        connection->start();
        return connection->drain();
    }
    if (full) {
        refusals_.emplace(number, connection);
        return connection->refuse(
            {errc::too_many_connections, "the server already has " + std::to_string(limits_.connections_max) +
                                             " connections; wait and connect again, or raise server.max_connections"});
    }
    connections_.emplace(number, connection);
    connection_count_ = connections_.size();
    connection->start();
}

void tcp_server::impl::sweep_later() {
    // Late by at most a quarter of the shortest limit, and cheap: one timer for all connections.
    auto shortest = std::min({limits_.line_timeout, limits_.write_timeout, limits_.linger});
    if (limits_.idle_timeout.count() > 0)
        shortest = std::min(shortest, limits_.idle_timeout);
    if (draining_)
        shortest = std::min(shortest, limits_.drain_grace);
    constexpr tcp_limits::milliseconds period_min{5}, period_max{250};
    sweep_timer_.expires_after(std::clamp(shortest / 4, period_min, period_max));
    sweep_timer_.async_wait([this](const asio::error_code& failure) {
        if (!failure && !closing_)
            sweep();
    });
}

void tcp_server::impl::sweep() {
    const auto now = clock::now();
    for (const auto& connection : listed(connections_))
        connection->sweep(now);
    for (const auto& connection : listed(refusals_))
        connection->sweep(now);
    if (draining_)
        enforce_drain(now);
    sweep_later();
}

void tcp_server::impl::drain(std::function<void()> done) {
    {
        const std::lock_guard lock(mutex_);
        if (!stopped_) {
            drained_.push_back(std::move(done));
            asio::post(io_, [this] { begin_drain(); });
            return;
        }
    }
    done();
}

void tcp_server::impl::begin_drain() {
    if (!draining_) {
        draining_ = true;
        drain_deadline_ = clock::now() + limits_.drain_timeout;
        for (const auto& connection : listed(connections_))
            connection->drain();
        sweep_later();
    }
    if (connections_.empty())
        end_drain();
}

void tcp_server::impl::end_drain() {
    listener_.close();
    tell_drained();
}

void tcp_server::impl::enforce_drain(clock::time_point now) {
    if (now < drain_deadline_)
        return;
    if (!drain_expired_) {
        drain_expired_ = true;
        for (const auto& [tag, connection] : routes_)
            port_->cancel(tag);
    }
    // Cancelled requests still get their last line, those who read it.
    if (now - drain_deadline_ > limits_.linger)
        for (const auto& connection : listed(connections_))
            connection->cut();
}

void tcp_server::impl::tell_drained() {
    std::vector<std::function<void()>> waiting;
    {
        const std::lock_guard lock(mutex_);
        waiting.swap(drained_);
    }
    for (const auto& done : waiting)
        done();
}

void tcp_server::impl::stop() {
    {
        const std::lock_guard lock(mutex_);
        if (!stopped_)
            asio::post(io_, [this] { close_all(); });
        stopped_ = true;
    }
    if (thread_.joinable())
        thread_.join();
    tell_drained();
}

void tcp_server::impl::close_all() {
    closing_ = true;
    listener_.close();
    sweep_timer_.cancel();
    for (const auto& connection : listed(connections_))
        connection->cut();
    for (const auto& connection : listed(refusals_))
        connection->cut();
    work_.reset();
}

tcp_server::tcp_server(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
tcp_server::~tcp_server() = default;

result<std::unique_ptr<tcp_server>> tcp_server::start(std::string_view address, const tcp_limits& limits,
                                                      session_factory sessions, request_port& port) {
    auto parts = std::make_unique<impl>(limits, std::move(sessions), port);
    if (auto listening = parts->listen(address); !listening)
        return tl::unexpected<error>(std::move(listening.error()));
    return std::unique_ptr<tcp_server>(new tcp_server(std::move(parts)));
}

const std::string& tcp_server::address() const noexcept {
    return impl_->address();
}
void tcp_server::use_port(request_port& port, std::function<void()> first) {
    impl_->use_port(port, first);
}
void tcp_server::deliver(std::shared_ptr<const output_batch> news) {
    impl_->put(std::move(news));
}

void tcp_server::deliver_statistics(std::uint64_t ticket,
                                    result<std::shared_ptr<const runtime_statistics>> statistics) {
    impl_->put(runtime_answer{ticket, std::move(statistics)});
}

void tcp_server::deliver_text(std::uint64_t ticket, result<text_answer> answer) {
    impl_->put(runtime_answer{ticket, std::move(answer)});
}

void tcp_server::drain(std::function<void()> done) {
    impl_->drain(std::move(done));
}
void tcp_server::stop() {
    impl_->stop();
}
tcp_statistics tcp_server::statistics() const {
    return impl_->statistics();
}

} // namespace moira
