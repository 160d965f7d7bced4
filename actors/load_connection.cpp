#include "actors/load_connection.hpp"

#include <asio/buffer.hpp>
#include <asio/connect.hpp>
#include <asio/write.hpp>

namespace moira {

namespace {

/// Some tens of token lines; allocated per client.
constexpr std::size_t read_bytes = std::size_t{16} << 10;

} // namespace

load_connection::load_connection(asio::io_context& io, std::size_t index, const load_options& options,
                                 const endpoints& peers, news_function on_news)
    : socket_(io), index_(index), options_(options), peers_(peers), on_news_(std::move(on_news)),
      protocol_(make_load_protocol(options.protocol)), input_(read_bytes), heard_(clock::now()) {}

void load_connection::send(const load_request& request) {
    transmit([&] { return protocol_->ask(request); });
}

void load_connection::ask_facts() {
    transmit([this] { return protocol_->ask_facts(); });
}

void load_connection::ask_statistics() {
    transmit([this] { return protocol_->ask_statistics(); });
}

void load_connection::transmit(const std::function<std::string()>& question) {
    open_ = true;
    heard_ = clock::now();
    const std::string greeting = connected_ ? std::string() : protocol_->greet();
    output_ = greeting + question();
    if (connected_)
        write();
    else
        connect();
}

void load_connection::connect() {
    connecting_ = true;
    const auto life = ++life_;
    asio::async_connect(socket_, peers_,
                        [self = shared_from_this(), life](const asio::error_code& failure, const auto&) {
                            if (life != self->life_)
                                return;
                            self->connecting_ = false;
                            if (failure)
                                return self->fail_with("connection_refused");
                            self->connected_ = true;
                            self->heard_ = clock::now();
                            asio::error_code ignored; // costs latency, never correctness
                            self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
                            self->read();
                            self->write();
                        });
}

void load_connection::write() {
    writing_ = true;
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this(), life = life_](const asio::error_code&, std::size_t) {
                          // A failure is left to the read: a peer that refuses says why before it closes.
                          if (life == self->life_)
                              self->writing_ = false;
                      });
}

void load_connection::read() {
    socket_.async_read_some(asio::buffer(input_), [self = shared_from_this(),
                                                   life = life_](const asio::error_code& failure, std::size_t bytes) {
        if (life == self->life_)
            self->received(failure, bytes);
    });
}

void load_connection::received(const asio::error_code& failure, std::size_t bytes) {
    heard_ = clock::now();
    if (failure) {
        const auto news = protocol_->closed();
        cut();
        return report(news);
    }
    const auto life = life_;
    const auto news = protocol_->receive({input_.data(), bytes});
    // An answer before all of the request was sent is a refusal; the rest of the request would be taken for the next.
    if (news.state != reply_news::outcome::open && (!news.reusable || writing_))
        cut();
    report(news);
    if (life == life_ && connected_)
        read();
}

void load_connection::report(const reply_news& news) {
    if (!open_)
        return;
    if (news.state != reply_news::outcome::open)
        open_ = false;
    if (news.state != reply_news::outcome::open || news.tokens != 0)
        on_news_(index_, news, heard_);
}

void load_connection::fail_with(const std::string& reason) {
    cut();
    heard_ = clock::now();
    report(broken_reply(reason));
}

void load_connection::sweep(clock::time_point now) {
    if (!open_)
        return;
    if (connecting_ && now - heard_ > options_.connect_timeout)
        return fail_with("connect_timeout");
    if (connected_ && now - heard_ > options_.silence_timeout)
        fail_with("timeout");
}

void load_connection::cut() {
    ++life_;
    connected_ = connecting_ = writing_ = false;
    asio::error_code ignored;
    socket_.close(ignored);
}

} // namespace moira
