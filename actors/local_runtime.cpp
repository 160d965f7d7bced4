#include "actors/local_runtime.hpp"

#include "actors/caf_edition.hpp"
#include "actors/callback_sink.hpp"
#include "actors/embedding_session.hpp"
#include "actors/runtime_start.hpp"

#include <atomic>
#include <condition_variable>

namespace moira {

namespace {

/// Asking a living runtime takes microseconds; a part that does not answer in this time has a step running that no
/// question should wait for.
constexpr auto answer_timeout = std::chrono::seconds(10);

struct runtime_config : caf::actor_system_config {
    explicit runtime_config(const runtime_settings& wanted) {
        add_message_types<caf::id_block::moira>();
        // `stealing` polls with sleeps and is erratic for messages from outside threads.
        set("scheduler.policy", caf::atom("sharing"));
        set("scheduler.max-threads", static_cast<std::size_t>(wanted.actor_threads));
        set("logger.verbosity", caf::atom("quiet"));
    }
};

/// Waits for the one result of a request.
class result_box {
public:
    void put(generation_result outcome) {
        const std::lock_guard held(lock_);
        outcome_ = std::move(outcome);
        arrived_.notify_all();
    }

    bool wait_for(std::chrono::milliseconds patience) {
        std::unique_lock held(lock_);
        return arrived_.wait_for(held, patience, [this] { return outcome_.has_value(); });
    }

    generation_result take() {
        const std::lock_guard held(lock_);
        return std::move(*outcome_);
    }

private:
    std::mutex lock_;
    std::condition_variable arrived_;
    std::optional<generation_result> outcome_;
};

}  // namespace

struct local_runtime::impl {
    impl(const settings& wanted, model_room opened, log_function listener)
        : all(wanted), room(std::move(opened)), log(std::move(listener)), config(wanted.runtime) {}

    result<void> start();
    result<std::string> listen(const std::string& address, bool http);

    settings all;
    model_room room;
    log_function log;
    std::shared_ptr<const runtime_identity> identity;
    std::shared_ptr<const intake_rules> rules;
    std::shared_ptr<callback_registry> registry = std::make_shared<callback_registry>();
    std::atomic<bool> failed{false};
    std::atomic<std::uint64_t> last_number{0};
    runtime_config config;
    std::optional<caf::actor_system> system;
    supervisor_actor supervisor;
    std::shared_ptr<intake_slot> intake = std::make_shared<intake_slot>();
    supervised_sink_actor sink;
};

result<void> local_runtime::impl::start() {
    const auto options = supervisor_options_of(all, room.model, room.pool->size(), log);
    if (!options)
        return tl::unexpected(options.error());
    rules = options->rules;
    identity = options->identity;
    system.emplace(config);
    supervisor = spawn_supervisor(*system, *options);
    sink = spawn_callback_sink(*system, registry, intake);
    caf::actor_cast<caf::abstract_actor*>(supervisor)->attach_functor([this] {
        failed = true;
        registry->fail_all({errc::internal, "the runtime has ended"});
    });
    caf::scoped_actor self{*system};
    self->request(supervisor, answer_timeout, intake_atom{}, sink)
        .receive([this](const intake_actor& first) { intake->set(first); }, [](const caf::error&) {});
    return {};
}

result<std::unique_ptr<local_runtime>> local_runtime::start(const settings& all, const runtime_surroundings& place) {
    auto room = model_room::open(all, place);
    if (!room)
        return tl::unexpected(room.error());
    auto parts = std::make_unique<impl>(all, std::move(*room), place.log);
    if (auto done = parts->start(); !done)
        return tl::unexpected(done.error());
    return std::unique_ptr<local_runtime>(new local_runtime(std::move(parts)));
}

local_runtime::local_runtime(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}

local_runtime::~local_runtime() {
    {
        caf::scoped_actor self{*impl_->system};
        end_now(impl_->supervisor, caf::exit_reason::user_shutdown);
        end_now(impl_->sink, caf::exit_reason::user_shutdown);
        self->wait_for(impl_->supervisor, impl_->sink);
    }
    impl_->supervisor = supervisor_actor();
    impl_->sink = supervised_sink_actor();
    impl_->intake->set(intake_actor());
    // Waits for the other parts, which the supervisor has told to end.
    impl_->system.reset();
}

std::uint64_t local_runtime::submit(generation_input input, event_function on_event) {
    const auto number = ++impl_->last_number;
    impl_->registry->add(number, std::move(on_event));
    if (impl_->failed) {
        impl_->registry->fail_all({errc::internal, "the runtime has ended"});
        return number;
    }
    caf::anon_send(impl_->intake->get(), submit_atom{}, number,
                   generation_input_ptr(std::make_shared<generation_input>(std::move(input))), sink_actor{impl_->sink});
    return number;
}

void local_runtime::cancel(std::uint64_t number) {
    caf::anon_send(impl_->intake->get(), cancel_atom{}, number, sink_actor{impl_->sink});
}

generation_result local_runtime::run(generation_input input, const event_function& on_event,
                                     const std::function<bool()>& interrupted) {
    constexpr auto look_interval = std::chrono::milliseconds(50);
    auto box = std::make_shared<result_box>();
    const auto number = submit(std::move(input), [box, on_event](const output_event& event) {
        if (on_event)
            on_event(event);
        if (event.finished)
            box->put(*event.finished);
    });
    bool cancelled = false;
    while (!box->wait_for(look_interval))
        if (!cancelled && interrupted && interrupted()) {
            cancelled = true;
            cancel(number);
        }
    return box->take();
}

result<std::int32_t> local_runtime::count_prompt_tokens(const generation_input& input) const {
    return prepare_request(input, {}, *impl_->rules, std::chrono::steady_clock::now())
        .map([](const generation_request& request) { return static_cast<std::int32_t>(request.prompt.size()); });
}

result<std::string> local_runtime::impl::listen(const std::string& address, bool http) {
    caf::scoped_actor self{*system};
    result<std::string> bound = fail(errc::internal, "no answer");
    const auto opened = [&](const std::string& where) { bound = where; };
    const auto refused = [&](const caf::error& why) {
        bound = fail(errc::io_error, "cannot listen on " + address + ": " + system->render(why));
    };
    if (http)
        self->request(supervisor, answer_timeout, listen_atom{}, http_atom{}, address).receive(opened, refused);
    else
        self->request(supervisor, answer_timeout, listen_atom{}, address).receive(opened, refused);
    return bound;
}

result<std::string> local_runtime::listen_tcp(const std::string& address) {
    return impl_->listen(address, false);
}

result<std::string> local_runtime::listen_http(const std::string& address) {
    return impl_->listen(address, true);
}

result<void> local_runtime::listen(std::shared_ptr<early_server> early) {
    caf::scoped_actor self{*impl_->system};
    result<void> outcome = fail(errc::internal, "the runtime does not take the server that listens on " + early->address());
    self->request(impl_->supervisor, answer_timeout, listen_atom{}, std::move(early))
        .receive([&](const std::string&) { outcome = {}; }, [](const caf::error&) {});
    return outcome;
}

bool local_runtime::drain(std::chrono::milliseconds patience) {
    caf::scoped_actor self{*impl_->system};
    bool done = false;
    self->request(impl_->supervisor, patience, drain_atom{})
        .receive([&](bool ended) { done = ended; }, [](const caf::error&) {});
    return done;
}

void local_runtime::preempt(std::int32_t count) { caf::anon_send(impl_->supervisor, preempt_atom{}, count); }

bool local_runtime::inject_fault(const std::string& part) {
    if (!impl_->all.server.fault_injection)
        return false;
    caf::scoped_actor self{*impl_->system};
    bool known = false;
    self->request(impl_->supervisor, answer_timeout, fault_atom{}, part)
        .receive([&](bool found) { known = found; }, [](const caf::error&) {});
    return known;
}

result<void> local_runtime::resize_experts(std::uint64_t budget_bytes) {
    caf::scoped_actor self{*impl_->system};
    result<void> outcome = fail(errc::internal, "the expert cache does not answer");
    self->request(impl_->supervisor, answer_timeout, resize_atom{}, budget_bytes)
        .receive([&](bool fits) {
            if (fits)
                outcome = {};
            else
                outcome = fail(errc::budget_too_small, std::to_string(budget_bytes) + " bytes are too few for one token's experts");
        }, [](const caf::error&) {});
    return outcome;
}

std::optional<runtime_statistics> local_runtime::statistics() {
    caf::scoped_actor self{*impl_->system};
    std::optional<runtime_statistics> found;
    self->request(impl_->supervisor, answer_timeout, stats_atom{})
        .receive([&](const runtime_statistics_ptr& all) { found = *all; }, [](const caf::error&) {});
    return found;
}

caf::actor_system& local_runtime_actors::system(local_runtime& runtime) { return *runtime.impl_->system; }

runtime_actor local_runtime_actors::spawn_session(local_runtime& runtime) {
    const auto& parts = *runtime.impl_;
    return spawn_embedding_session(*runtime.impl_->system, {parts.supervisor, parts.identity, parts.room.model});
}

const runtime_identity& local_runtime::identity() const noexcept { return *impl_->identity; }
double local_runtime::load_s() const noexcept { return impl_->room.model->load_s(); }
std::uint64_t local_runtime::slab_bytes() const noexcept { return impl_->room.model->slab_bytes(); }
std::uint64_t local_runtime::dense_bytes() const noexcept { return impl_->room.model->dense_bytes(); }
std::uint64_t local_runtime::expert_source_bytes() const noexcept { return impl_->room.model->expert_source_bytes(); }
bool local_runtime::failed() const noexcept { return impl_->failed; }

}  // namespace moira
