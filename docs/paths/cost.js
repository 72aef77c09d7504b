// The arithmetic of src/tercet/bench/cost.py, in the same order, so that both give the same bits (a test compares
// them), and the form of organizations.md that shows it. Nothing is sent anywhere.
"use strict";

function monthlyCost(v) {
  const HOURS_A_MONTH = 730, DAYS_A_MONTH = HOURS_A_MONTH / 24;
  const seconds = v.prompt_tokens / v.prompt_tokens_per_second + v.answer_tokens / v.answer_tokens_per_second;
  const requestsAnHour = 3600 / seconds * v.use;
  const machines = Math.ceil(v.requests_per_day * v.busiest_hour / requestsAnHour) + v.spare_machines;
  const owned = v.machine / v.machine_months + v.watts / 1000 * HOURS_A_MONTH * v.kilowatt_hour;
  const one = v.machine_hour * HOURS_A_MONTH + owned;
  const month = machines * one + v.people_a_month;
  const requests = v.requests_per_day * DAYS_A_MONTH;
  const apiRequest = (v.prompt_tokens * v.api_million_prompt_tokens
    + v.answer_tokens * v.api_million_answer_tokens) / 1e6;
  const least = (1 + v.spare_machines) * one + v.people_a_month;
  let breakEven = apiRequest > 0 ? least / (apiRequest * DAYS_A_MONTH) : null;
  if (breakEven !== null && breakEven > requestsAnHour / v.busiest_hour) breakEven = null;
  return {
    seconds_a_request: seconds,
    requests_an_hour: requestsAnHour,
    machines: machines,
    a_month: month,
    a_thousand_requests: month / requests * 1000,
    a_million_answer_tokens: month / (requests * v.answer_tokens) * 1e6,
    api_a_month: requests * apiRequest,
    break_even_requests_per_day: breakEven,
  };
}

function showCost(form) {
  const values = {}, wrong = [];
  for (const field of form.querySelectorAll("input")) {
    values[field.name] = field.valueAsNumber;
    const above = field.dataset.above === "0" ? field.valueAsNumber > 0 : field.valueAsNumber >= 0;
    field.setAttribute("aria-invalid", String(!above));
    if (!above) wrong.push(field.labels[0].textContent.trim());
  }
  const result = wrong.length ? {} : monthlyCost(values);
  for (const place of form.querySelectorAll("output")) {
    const value = result[place.name];
    place.textContent = value === undefined ? "–"
      : value === null ? (result.api_a_month > 0 ? "never within one machine" : "–")
      : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 3 : value < 1000 ? 1 : 0 });
  }
  form.querySelector("[role=status]").textContent = wrong.length ? "Not a possible value: " + wrong.join(", ") : "";
}

if (typeof document !== "undefined") {
  document.addEventListener("DOMContentLoaded", () => {
    const form = document.querySelector("form.cost");
    if (!form) return;
    form.addEventListener("input", () => showCost(form));
    form.addEventListener("submit", (event) => event.preventDefault());
    showCost(form);
  });
}
