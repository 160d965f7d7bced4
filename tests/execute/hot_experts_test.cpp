// experts.profile from one run to the next: never the answer, only what lies in memory.
#include "core/execute/hot_experts.hpp"

#include "tests/execute/test_engine.hpp"

#include <algorithm>
#include <chrono>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <thread>
#include <unistd.h>

using namespace moira;

namespace {

class profile_file {
public:
    profile_file()
        : path_(std::filesystem::temp_directory_path() /
                ("moira_hot_experts_" + std::to_string(::getpid()) + ".profile")) {
        std::filesystem::remove(path_);
    }
    ~profile_file() { std::filesystem::remove(path_); }
    const std::filesystem::path& path() const { return path_; }

    std::string text() const {
        std::ifstream in(path_);
        return {std::istreambuf_iterator<char>(in), {}};
    }

private:
    std::filesystem::path path_;
};

std::vector<float> run(engine& model) {
    auto logits = logits_of(model, some_tokens(24), 1);
    REQUIRE(logits);
    return *logits;
}

} // namespace

TEST_CASE("a run leaves a profile, the next one warms the cache with it and answers the same") {
    const profile_file file;
    std::string said;
    const auto log = [&said](log_level, const std::string& sentence) { said += sentence; };
    std::vector<float> first;
    {
        auto cold = test_engine::required(golden_folder("qwen3_moe"), {});
        const hot_experts profile(file.path(), *cold.model, log);
        CHECK(cold.model->experts().statistics().profile_loads == 0);
        first = run(*cold.model);
    }
    const auto saved = read_expert_profile(file.path());
    REQUIRE(saved);
    auto warm = test_engine::required(golden_folder("qwen3_moe"), {});
    CHECK(saved->model == profile_identity(warm.model->shape()));
    {
        const hot_experts profile(file.path(), *warm.model, log);
        const auto named =
            std::count_if(saved->use_rates.begin(), saved->use_rates.end(), [](float rate) { return rate > 0; });
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (warm.model->experts().statistics().resident < static_cast<std::uint64_t>(named) &&
               std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        CHECK(warm.model->experts().statistics().profile_loads == static_cast<std::uint64_t>(named));
        CHECK(same_bits(run(*warm.model), first));
        CHECK(warm.model->experts().statistics().demand_loads == 0);
    }
    CHECK(said.empty());
}

TEST_CASE("a profile of another model or a damaged one is said, ignored and left alone") {
    for (const std::string& text : {std::string("moira-expert-profile 1\nmodel other\nlayers 1 experts 1\n0 0 0.5\n"),
                                    std::string("not a profile")}) {
        const profile_file file;
        std::ofstream(file.path()) << text;
        std::string said;
        {
            auto tested = test_engine::required(golden_folder("qwen3_moe"), {});
            const hot_experts profile(file.path(), *tested.model,
                                      [&said](log_level, const std::string& sentence) { said += sentence; });
            CHECK(tested.model->experts().statistics().profile_loads == 0);
            run(*tested.model);
            CHECK(profile.save());
        }
        CHECK_FALSE(said.empty());
        CHECK(file.text() == text);
    }
}

TEST_CASE("a profile that cannot be written ends nothing") {
    std::string said;
    {
        auto tested = test_engine::required(golden_folder("qwen3_moe"), {});
        const hot_experts profile("/no/such/folder/hot.profile", *tested.model,
                                  [&said](log_level, const std::string& sentence) { said += sentence; });
        run(*tested.model);
        CHECK(profile.save().error().code == errc::io_error);
    }
    CHECK_FALSE(said.empty());
}
