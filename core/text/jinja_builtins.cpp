#include "core/text/jinja_builtins.hpp"

#include "core/text/jinja_text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

namespace moira {
namespace {

[[noreturn]] void wrong_input(const std::string& name, const jinja_value& value) {
    jinja_fail(errc::invalid_argument, "'" + name + "' cannot take " + std::string(value.kind_name()));
}

const std::string& need_text(const std::string& name, const jinja_value& value) {
    if (value.text() == nullptr)
        wrong_input(name, value);
    return *value.text();
}

jinja_value make_text(std::string_view text, jinja_budget& budget) {
    budget.make(text.size());
    return jinja_value::of(std::string(text));
}

jinja_value make_list(const std::vector<std::string_view>& parts, jinja_budget& budget) {
    jinja_items items;
    items.reserve(parts.size());
    for (const std::string_view part : parts) {
        budget.make(sizeof(jinja_value));
        items.push_back(make_text(part, budget));
    }
    return jinja_value::of(std::move(items));
}

jinja_value pairs_of(const jinja_value& value, jinja_budget& budget) {
    jinja_items pairs;
    for (const auto& [name, member] : *value.members()) {
        budget.make(4 * sizeof(jinja_value));
        pairs.push_back(jinja_value::of(jinja_items{make_text(name, budget), member}));
    }
    return jinja_value::of(std::move(pairs));
}

jinja_value strip_method(const std::string& name, const std::string& text, const jinja_value& set,
                         jinja_budget& budget) {
    const strip_side side = name == "lstrip"   ? strip_side::left
                            : name == "rstrip" ? strip_side::right
                                               : strip_side::both;
    std::optional<std::string_view> characters_to_strip;
    if (set.text() != nullptr) {
        characters_to_strip = *set.text();
        budget.touch(text.size() * std::min<std::size_t>(set.text()->size(), 64));
        if (set.text()->size() > 64)
            jinja_fail(errc::invalid_argument, "'" + name + "' takes at most 64 bytes of characters");
    }
    budget.touch(text.size());
    return make_text(strip(text, side, characters_to_strip), budget);
}

jinja_value replace_in(const std::string& text, const jinja_arguments& arguments, jinja_budget& budget) {
    const std::string& old_part = need_text("replace", arguments.get(0, "old"));
    const std::string& new_part = need_text("replace", arguments.get(1, "new"));
    const jinja_value count_value = arguments.get(2, "count");
    std::int64_t left = count_value.integer() != nullptr ? *count_value.integer() : -1;
    if (old_part.empty())
        jinja_fail(errc::invalid_argument, "'replace' cannot search for an empty text");
    budget.touch(text.size());
    std::string made;
    std::size_t position = 0;
    for (std::size_t at = text.find(old_part); at != std::string::npos && left != 0; --left) {
        budget.make(at - position + new_part.size());
        made.append(text, position, at - position).append(new_part);
        position = at + old_part.size();
        at = text.find(old_part, position);
    }
    budget.make(text.size() - position);
    made.append(text, position);
    return jinja_value::of(std::move(made));
}

std::string capitalize(const std::string& text) {
    std::string made = to_lower(text);
    if (!made.empty())
        made[0] = to_upper(made.substr(0, 1))[0];
    return made;
}

/// True when the text begins (or ends) with the argument, or with any of a list.
bool has_affix(const std::string& name, const std::string& text, const jinja_value& affix, jinja_budget& budget) {
    if (const auto* any = affix.items())
        return std::any_of(any->begin(), any->end(),
                           [&](const jinja_value& one) { return has_affix(name, text, one, budget); });
    const std::string& part = need_text(name, affix);
    budget.touch(part.size() + 1);
    const std::string_view whole = text;
    return name == "startswith" ? whole.starts_with(part) : whole.ends_with(part);
}

jinja_value text_method(const std::string& name, const std::string& text, const jinja_arguments& arguments,
                        jinja_budget& budget) {
    if (name == "strip" || name == "lstrip" || name == "rstrip")
        return strip_method(name, text, arguments.get(0, "chars"), budget);
    if (name == "startswith" || name == "endswith")
        return jinja_value::of(has_affix(name, text, arguments.get(0, "prefix"), budget));
    budget.touch(text.size());
    if (name == "upper")
        return make_text(to_upper(text), budget);
    if (name == "lower")
        return make_text(to_lower(text), budget);
    if (name == "capitalize")
        return make_text(capitalize(text), budget);
    if (name == "replace")
        return replace_in(text, arguments, budget);
    if (name == "split") {
        const jinja_value separator = arguments.get(0, "sep");
        const jinja_value splits_max = arguments.get(1, "maxsplit");
        std::optional<std::string_view> by;
        if (!separator.is_none() && !separator.is_undefined())
            by = need_text(name, separator);
        if (by && by->empty())
            jinja_fail(errc::invalid_argument, "'split' cannot split at an empty text");
        return make_list(split_text(text, by, splits_max.integer() != nullptr ? *splits_max.integer() : -1), budget);
    }
    jinja_fail(errc::invalid_argument, "a string has no method '" + name + "'");
}

jinja_value dict_method(const std::string& name, const jinja_value& self, const jinja_arguments& arguments,
                        jinja_budget& budget) {
    if (name == "items")
        return pairs_of(self, budget);
    if (name == "keys")
        return jinja_value::of(iterate(self, budget));
    if (name == "values") {
        jinja_items values;
        for (const auto& [key, value] : *self.members()) {
            budget.make(sizeof(jinja_value));
            values.push_back(value);
        }
        return jinja_value::of(std::move(values));
    }
    if (name == "get") {
        const jinja_value key = arguments.get(0, "key");
        const jinja_value found = key.text() != nullptr ? member_of(self, *key.text(), budget) : jinja_value();
        if (!found.is_undefined())
            return found;
        const jinja_value fallback = arguments.get(1, "default");
        return fallback.is_undefined() ? jinja_value::of_none() : fallback;
    }
    jinja_fail(errc::invalid_argument, "a dict has no method '" + name + "'");
}

// ---------------------------------------------------------------- filters

using filter_function = jinja_value (*)(const std::string&, const jinja_value&, const jinja_arguments&, jinja_budget&);

std::size_t length_of(const std::string& name, const jinja_value& value, jinja_budget& budget) {
    if (value.is_undefined())
        return 0;
    if (const auto* text = value.text()) {
        budget.touch(text->size());
        return count_characters(*text);
    }
    if (value.items() != nullptr)
        return value.items()->size();
    if (value.members() != nullptr)
        return value.members()->size();
    wrong_input(name, value);
}

jinja_value filter_length(const std::string& name, const jinja_value& input, const jinja_arguments&,
                          jinja_budget& budget) {
    return jinja_value::of(static_cast<std::int64_t>(length_of(name, input, budget)));
}

/// Filters that work on the text form of anything.
jinja_value filter_text(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                        jinja_budget& budget) {
    const std::string text = to_text(input, budget);
    if (name == "string" || name == "safe")
        return jinja_value::of(text);
    return text_method(name == "trim" ? "strip" : name, text, arguments, budget);
}

jinja_value filter_tojson(const std::string&, const jinja_value& input, const jinja_arguments& arguments,
                          jinja_budget& budget) {
    // transformers' own tojson has ensure_ascii, indent, separators and sort_keys in this order.
    for (const char* key : {"separators", "sort_keys"})
        if (const jinja_value option = arguments.get(99, key); is_true(option))
            jinja_fail(errc::unsupported, std::string("tojson with ") + key);
    const jinja_value indent = arguments.get(1, "indent");
    std::optional<std::int64_t> spaces;
    if (indent.integer() != nullptr)
        spaces = *indent.integer();
    return jinja_value::of(to_json_text(input, spaces, budget));
}

jinja_value filter_join(const std::string&, const jinja_value& input, const jinja_arguments& arguments,
                        jinja_budget& budget) {
    const jinja_value separator = arguments.get(0, "d");
    const jinja_value attribute = arguments.get(1, "attribute");
    std::string made;
    bool first = true;
    for (const jinja_value& item : iterate(input, budget)) {
        const std::size_t before = made.size();
        if (!first)
            made += to_text(separator, budget);
        first = false;
        made += to_text(attribute.text() != nullptr ? member_of(item, *attribute.text(), budget) : item, budget);
        budget.make(made.size() - before + 1);
    }
    return jinja_value::of(std::move(made));
}

jinja_value filter_default(const std::string&, const jinja_value& input, const jinja_arguments& arguments,
                           jinja_budget&) {
    const bool replaces = input.is_undefined() || (is_true(arguments.get(1, "boolean")) && !is_true(input));
    if (!replaces)
        return input;
    const jinja_value fallback = arguments.get(0, "default_value");
    return fallback.is_undefined() ? jinja_value::of(std::string()) : fallback;
}

jinja_value filter_end(const std::string& name, const jinja_value& input, const jinja_arguments&,
                       jinja_budget& budget) {
    const jinja_items items = iterate(input, budget);
    if (items.empty())
        return {};
    return name == "first" ? items.front() : items.back();
}

jinja_value filter_list(const std::string& name, const jinja_value& input, const jinja_arguments&,
                        jinja_budget& budget) {
    jinja_items items = iterate(input, budget);
    if (name == "reverse")
        std::reverse(items.begin(), items.end());
    return jinja_value::of(std::move(items));
}

jinja_value filter_items(const std::string& name, const jinja_value& input, const jinja_arguments&,
                         jinja_budget& budget) {
    if (input.is_undefined())
        return jinja_value::of(jinja_items{});
    if (input.members() == nullptr)
        wrong_input(name, input);
    return pairs_of(input, budget);
}

jinja_value filter_number(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                          jinja_budget& budget) {
    const bool whole = name == "int";
    jinja_number number = as_number(input);
    if (const auto* text = input.text()) {
        const std::string_view digits = strip(*text, strip_side::both);
        budget.touch(text->size());
        const char* last = digits.data() + digits.size();
        const auto exact = std::from_chars(digits.data(), last, number.integer);
        number.valid = exact.ec == std::errc{} && exact.ptr == last;
        number.real = static_cast<double>(number.integer);
        if (!number.valid) {
            const auto real = std::from_chars(digits.data(), last, number.real);
            number.valid = number.is_real = real.ec == std::errc{} && real.ptr == last;
        }
    }
    if (!number.valid) {
        const jinja_value fallback = arguments.get(0, "default");
        if (!fallback.is_undefined())
            return fallback;
        return whole ? jinja_value::of(std::int64_t{0}) : jinja_value::of(0.0);
    }
    if (!whole)
        return jinja_value::of(number.real);
    if (!number.is_real)
        return jinja_value::of(number.integer);
    if (!(std::fabs(number.real) < 9.2e18)) // inside std::int64_t
        jinja_fail(errc::invalid_argument, "'int': the number is out of range");
    return jinja_value::of(static_cast<std::int64_t>(number.real));
}

/// Arguments from `first` on.
jinja_arguments rest_of(const jinja_arguments& arguments, std::size_t first) {
    jinja_arguments rest;
    for (std::size_t i = first; i < arguments.positional.size(); ++i)
        rest.positional.push_back(arguments.positional[i]);
    return rest;
}

/// select, reject, selectattr, rejectattr: items for which a test holds, of themselves or of one attribute.
jinja_value filter_select(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                          jinja_budget& budget) {
    const bool by_attribute = name == "selectattr" || name == "rejectattr";
    const bool keeps = name == "select" || name == "selectattr";
    const std::string attribute = by_attribute ? need_text(name, arguments.get(0, "attribute")) : std::string();
    const jinja_arguments test = rest_of(arguments, by_attribute ? 1 : 0);
    const std::string test_name = test.positional.empty() ? std::string() : need_text(name, test.positional[0]);
    const jinja_arguments test_arguments = rest_of(test, 1);
    jinja_items kept;
    for (const jinja_value& item : iterate(input, budget)) {
        budget.step();
        const jinja_value tested = by_attribute ? member_of(item, attribute, budget) : item;
        const bool holds =
            test_name.empty() ? is_true(tested) : apply_jinja_test(test_name, tested, test_arguments, budget);
        if (holds == keeps)
            kept.push_back(item);
    }
    return jinja_value::of(std::move(kept));
}

jinja_value filter_map(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                       jinja_budget& budget) {
    const jinja_value attribute = arguments.get(99, "attribute");
    const jinja_arguments filter_arguments = rest_of(arguments, 1);
    const std::string filter =
        attribute.text() != nullptr ? std::string() : need_text(name, arguments.get(0, "filter"));
    // A filter that maps filters would recurse once more for every name in the template.
    if (!filter.empty() && (!is_jinja_filter(filter) || filter == "map"))
        jinja_fail(errc::unsupported, "'map' with the filter '" + filter.substr(0, 80) + "'");
    jinja_items mapped;
    for (const jinja_value& item : iterate(input, budget)) {
        budget.step();
        mapped.push_back(filter.empty() ? member_of(item, *attribute.text(), budget)
                                        : apply_jinja_filter(filter, item, filter_arguments, budget));
    }
    return jinja_value::of(std::move(mapped));
}

struct filter_row {
    std::string_view name;
    filter_function apply;
};

constexpr filter_row filters[] = {
    {"capitalize", filter_text},   {"count", filter_length}, {"d", filter_default},     {"default", filter_default},
    {"first", filter_end},         {"float", filter_number}, {"int", filter_number},    {"items", filter_items},
    {"join", filter_join},         {"last", filter_end},     {"length", filter_length}, {"list", filter_list},
    {"lower", filter_text},        {"map", filter_map},      {"reject", filter_select}, {"rejectattr", filter_select},
    {"replace", filter_text},      {"reverse", filter_list}, {"safe", filter_text},     {"select", filter_select},
    {"selectattr", filter_select}, {"string", filter_text},  {"tojson", filter_tojson}, {"trim", filter_text},
    {"upper", filter_text}};

// ---------------------------------------------------------------- tests

std::int64_t whole_number(const std::string& name, const jinja_value& value) {
    const jinja_number number = as_number(value);
    if (!number.valid || number.is_real)
        wrong_input(name, value);
    return number.integer;
}

using test_function = bool (*)(const jinja_value&, const jinja_arguments&, jinja_budget&);

struct test_row {
    std::string_view name;
    test_function apply;
};

bool test_equal(const jinja_value& value, const jinja_arguments& arguments, jinja_budget& budget) {
    return equals(value, arguments.get(0, "other"), budget);
}

bool test_iterable(const jinja_value& value, const jinja_arguments&, jinja_budget&) {
    return value.is_undefined() || value.text() != nullptr || value.items() != nullptr ||
           (value.members() != nullptr && !value.is_namespace());
}

bool test_divisible(const jinja_value& value, const jinja_arguments& arguments, jinja_budget&) {
    const std::int64_t divisor = whole_number("divisibleby", arguments.get(0, "num"));
    if (divisor == 0)
        jinja_fail(errc::invalid_argument, "'divisibleby' cannot take 0");
    return divisor == -1 || whole_number("divisibleby", value) % divisor == 0;
}

constexpr test_row tests[] = {
    {"boolean", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return v.boolean() != nullptr; }},
    {"defined", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return !v.is_undefined(); }},
    {"divisibleby", test_divisible},
    {"eq", test_equal},
    {"equalto", test_equal},
    {"even",
     [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return whole_number("even", v) % 2 == 0; }},
    {"false", [](const jinja_value& v, const jinja_arguments&,
                 jinja_budget&) { return v.boolean() != nullptr && !*v.boolean(); }},
    {"float", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return v.real() != nullptr; }},
    {"integer", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return v.integer() != nullptr; }},
    {"iterable", test_iterable},
    {"mapping", [](const jinja_value& v, const jinja_arguments&,
                   jinja_budget&) { return v.members() != nullptr && !v.is_namespace(); }},
    {"none", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return v.is_none(); }},
    {"number", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return as_number(v).valid; }},
    {"odd",
     [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return whole_number("odd", v) % 2 != 0; }},
    {"sequence", test_iterable},
    {"string", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return v.text() != nullptr; }},
    {"true", [](const jinja_value& v, const jinja_arguments&,
                jinja_budget&) { return v.boolean() != nullptr && *v.boolean(); }},
    {"undefined", [](const jinja_value& v, const jinja_arguments&, jinja_budget&) { return v.is_undefined(); }}};

constexpr std::string_view methods[] = {"capitalize", "endswith", "get",   "items",      "keys",  "lower", "lstrip",
                                        "replace",    "rstrip",   "split", "startswith", "strip", "upper", "values"};

constexpr std::string_view functions[] = {"namespace", "raise_exception", "range", "strftime_now"};

template <class Rows>
auto find_row(const Rows& rows, std::string_view name) {
    return std::find_if(std::begin(rows), std::end(rows), [&](const auto& row) { return row.name == name; });
}

jinja_value make_range(const jinja_arguments& arguments, jinja_budget& budget) {
    const auto& given = arguments.positional;
    if (given.empty() || given.size() > 3)
        jinja_fail(errc::invalid_argument, "'range' takes one to three numbers");
    const std::int64_t begin = given.size() == 1 ? 0 : whole_number("range", given[0]);
    const std::int64_t end = whole_number("range", given[given.size() == 1 ? 0 : 1]);
    const std::int64_t step = given.size() == 3 ? whole_number("range", given[2]) : 1;
    if (step == 0)
        jinja_fail(errc::invalid_argument, "'range' cannot step by 0");
    jinja_items items;
    for (std::int64_t at = begin; step > 0 ? at < end : at > end;) {
        budget.make(sizeof(jinja_value));
        items.push_back(jinja_value::of(at));
        if (__builtin_add_overflow(at, step, &at))
            break;
    }
    return jinja_value::of(std::move(items));
}

} // namespace

jinja_value jinja_arguments::get(std::size_t index, std::string_view name) const {
    if (index < positional.size())
        return positional[index];
    for (const auto& [known, value] : named)
        if (known == name)
            return value;
    return {};
}

bool is_jinja_filter(std::string_view name) {
    return find_row(filters, name) != std::end(filters);
}

bool is_jinja_test(std::string_view name) {
    return find_row(tests, name) != std::end(tests);
}

bool is_jinja_method(std::string_view name) {
    return std::find(std::begin(methods), std::end(methods), name) != std::end(methods);
}

bool is_jinja_function(std::string_view name) {
    return std::find(std::begin(functions), std::end(functions), name) != std::end(functions);
}

jinja_value apply_jinja_filter(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                               jinja_budget& budget) {
    const auto row = find_row(filters, name);
    if (row == std::end(filters))
        jinja_fail(errc::unsupported, "the filter '" + name.substr(0, 80) + "' is not known");
    return row->apply(name, input, arguments, budget);
}

bool apply_jinja_test(const std::string& name, const jinja_value& input, const jinja_arguments& arguments,
                      jinja_budget& budget) {
    const auto row = find_row(tests, name);
    if (row == std::end(tests))
        jinja_fail(errc::unsupported, "the test '" + name.substr(0, 80) + "' is not known");
    return row->apply(input, arguments, budget);
}

jinja_value call_jinja_method(const std::string& name, const jinja_value& self, const jinja_arguments& arguments,
                              jinja_budget& budget) {
    if (const auto* text = self.text())
        return text_method(name, *text, arguments, budget);
    if (self.members() != nullptr && !self.is_namespace())
        return dict_method(name, self, arguments, budget);
    jinja_fail(errc::invalid_argument, std::string(self.kind_name()) + " has no method '" + name + "'");
}

jinja_value call_jinja_function(const std::string& name, const jinja_arguments& arguments, jinja_budget& budget) {
    if (name == "raise_exception")
        throw jinja_failure{{errc::invalid_argument, to_text(arguments.get(0, "message"), budget)}, true};
    if (name == "namespace")
        return jinja_value::make_namespace(arguments.named);
    if (name == "range")
        return make_range(arguments, budget);
    jinja_fail(errc::unsupported, "the function '" + name + "'");
}

} // namespace moira
