#include "core/text/jinja_value.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace moira {

struct jinja_value::list_data {
    jinja_items items;
    std::size_t depth = 1;
};

struct jinja_value::dict_data {
    jinja_members members;
    std::size_t depth = 1;
};

struct jinja_value::namespace_data {
    jinja_members members;
};

namespace {

void refuse_namespace(const jinja_value& value) {
    if (value.is_namespace())
        jinja_fail(errc::invalid_argument, "a chat template cannot put a namespace into another value");
}

/// Depth of a container of this value, checked.
std::size_t depth_around(const jinja_value& value, std::size_t so_far) {
    refuse_namespace(value);
    const std::size_t depth = std::max(so_far, value.depth() + 1);
    if (depth > jinja_value_depth_max)
        jinja_fail(errc::invalid_argument,
                   "a value is nested deeper than " + std::to_string(jinja_value_depth_max) + " levels");
    return depth;
}

} // namespace

jinja_value jinja_value::of(std::string text) {
    return jinja_value(std::shared_ptr<const std::string>(std::make_shared<std::string>(std::move(text))));
}

jinja_value jinja_value::of(jinja_items items) {
    auto made = std::make_shared<list_data>();
    for (const jinja_value& item : items)
        made->depth = depth_around(item, made->depth);
    made->items = std::move(items);
    return jinja_value(std::shared_ptr<const list_data>(std::move(made)));
}

jinja_value jinja_value::of(jinja_members members) {
    auto made = std::make_shared<dict_data>();
    for (const auto& [name, value] : members)
        made->depth = depth_around(value, made->depth);
    made->members = std::move(members);
    return jinja_value(std::shared_ptr<const dict_data>(std::move(made)));
}

jinja_value jinja_value::make_namespace(jinja_members members) {
    for (const auto& [name, value] : members)
        refuse_namespace(value);
    auto made = std::make_shared<namespace_data>();
    made->members = std::move(members);
    return jinja_value(std::move(made));
}

jinja_value jinja_value::from_json(const nlohmann::ordered_json& json, std::size_t depth) {
    if (depth > jinja_value_depth_max)
        jinja_fail(errc::invalid_argument,
                   "a variable is nested deeper than " + std::to_string(jinja_value_depth_max) + " levels");
    if (json.is_null())
        return of_none();
    if (json.is_boolean())
        return of(json.get<bool>());
    if (json.is_number_unsigned() && json.get<std::uint64_t>() > INT64_MAX)
        jinja_fail(errc::invalid_argument, "a whole number beyond 63 bits");
    if (json.is_number_integer())
        return of(json.get<std::int64_t>());
    if (json.is_number_float())
        return of(json.get<double>());
    if (json.is_string())
        return of(json.get<std::string>());
    if (json.is_array()) {
        jinja_items items;
        items.reserve(json.size());
        for (const auto& item : json)
            items.push_back(from_json(item, depth + 1));
        return of(std::move(items));
    }
    jinja_members members;
    for (const auto& [name, value] : json.items())
        members.emplace_back(name, from_json(value, depth + 1));
    return of(std::move(members));
}

const std::string* jinja_value::text() const {
    const auto* shared = std::get_if<std::shared_ptr<const std::string>>(&data_);
    return shared != nullptr ? shared->get() : nullptr;
}

const jinja_items* jinja_value::items() const {
    const auto* shared = std::get_if<std::shared_ptr<const list_data>>(&data_);
    return shared != nullptr ? &(*shared)->items : nullptr;
}

const jinja_members* jinja_value::members() const {
    if (const auto* dict = std::get_if<std::shared_ptr<const dict_data>>(&data_))
        return &(*dict)->members;
    if (const auto* space = std::get_if<std::shared_ptr<namespace_data>>(&data_))
        return &(*space)->members;
    return nullptr;
}

void jinja_value::set_member(const std::string& name, jinja_value value, jinja_budget& budget) {
    refuse_namespace(value);
    auto& members = std::get<std::shared_ptr<namespace_data>>(data_)->members;
    budget.touch(members.size());
    for (auto& [known, held] : members)
        if (known == name) {
            held = std::move(value);
            return;
        }
    budget.make(sizeof(jinja_members::value_type) + name.size());
    members.emplace_back(name, std::move(value));
}

std::size_t jinja_value::depth() const {
    if (const auto* list = std::get_if<std::shared_ptr<const list_data>>(&data_))
        return (*list)->depth;
    if (const auto* dict = std::get_if<std::shared_ptr<const dict_data>>(&data_))
        return (*dict)->depth;
    return 0;
}

std::string_view jinja_value::kind_name() const {
    constexpr std::string_view names[] = {"undefined", "none",   "a bool", "a number",    "a number",
                                          "a string",  "a list", "a dict", "a namespace", "a function"};
    return names[data_.index()];
}

jinja_number as_number(const jinja_value& value) {
    if (const auto* integer = value.integer())
        return {true, false, *integer, static_cast<double>(*integer)};
    if (const auto* real = value.real())
        return {true, true, 0, *real};
    if (const auto* boolean = value.boolean())
        return {true, false, *boolean ? 1 : 0, *boolean ? 1.0 : 0.0};
    return {};
}

bool is_true(const jinja_value& value) {
    if (const auto number = as_number(value); number.valid)
        return number.is_real ? number.real != 0 : number.integer != 0;
    if (const auto* text = value.text())
        return !text->empty();
    if (const auto* items = value.items())
        return !items->empty();
    if (value.is_namespace())
        return true;
    if (const auto* members = value.members())
        return !members->empty();
    return value.callable() != nullptr;
}

bool equals(const jinja_value& a, const jinja_value& b, jinja_budget& budget) {
    budget.step(); // a value that holds itself many times over is compared as often
    const jinja_number x = as_number(a);
    const jinja_number y = as_number(b);
    if (x.valid && y.valid)
        return x.is_real || y.is_real ? x.real == y.real : x.integer == y.integer;
    if (a.text() != nullptr && b.text() != nullptr) {
        budget.touch(std::min(a.text()->size(), b.text()->size()));
        return *a.text() == *b.text();
    }
    if (a.items() != nullptr && b.items() != nullptr)
        return std::equal(a.items()->begin(), a.items()->end(), b.items()->begin(), b.items()->end(),
                          [&](const jinja_value& p, const jinja_value& q) { return equals(p, q, budget); });
    if (a.members() != nullptr && b.members() != nullptr) {
        if (a.members()->size() != b.members()->size())
            return false;
        return std::all_of(a.members()->begin(), a.members()->end(), [&](const auto& member) {
            const jinja_value other = member_of(b, member.first, budget);
            return !other.is_undefined() && equals(member.second, other, budget);
        });
    }
    return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const jinja_value& a, const jinja_value& b, jinja_budget& budget) {
    const jinja_number x = as_number(a);
    const jinja_number y = as_number(b);
    if (x.valid && y.valid) {
        if (x.is_real || y.is_real)
            return x.real < y.real ? -1 : x.real > y.real ? 1 : 0;
        return x.integer < y.integer ? -1 : x.integer > y.integer ? 1 : 0;
    }
    if (a.text() != nullptr && b.text() != nullptr) {
        budget.touch(std::min(a.text()->size(), b.text()->size()));
        return a.text()->compare(*b.text()); // the order of UTF-8 bytes is the order of code points
    }
    jinja_fail(errc::invalid_argument,
               std::string(a.kind_name()) + " and " + std::string(b.kind_name()) + " have no order");
}

jinja_value member_of(const jinja_value& container, std::string_view name, jinja_budget& budget) {
    const jinja_members* members = container.members();
    if (members == nullptr)
        return {};
    budget.touch(members->size());
    for (const auto& [known, value] : *members)
        if (known == name)
            return value;
    return {};
}

jinja_items iterate(const jinja_value& value, jinja_budget& budget) {
    jinja_items items;
    if (value.is_undefined())
        return items;
    if (const auto* list = value.items()) {
        budget.make(list->size() * sizeof(jinja_value));
        return *list;
    }
    if (const auto* members = value.members(); members != nullptr && !value.is_namespace()) {
        for (const auto& [name, member] : *members) {
            budget.make(sizeof(jinja_value));
            budget.make(name.size());
            items.push_back(jinja_value::of(name));
        }
        return items;
    }
    const std::string* text = value.text();
    if (text == nullptr)
        jinja_fail(errc::invalid_argument, std::string(value.kind_name()) + " cannot be looped over");
    for (std::size_t begin = 0; begin < text->size();) {
        std::size_t end = begin + 1;
        while (end < text->size() && (static_cast<unsigned char>((*text)[end]) & 0xC0) == 0x80)
            ++end;
        budget.make(sizeof(jinja_value) + sizeof(std::string));
        items.push_back(jinja_value::of(text->substr(begin, end - begin)));
        begin = end;
    }
    return items;
}

} // namespace moira
