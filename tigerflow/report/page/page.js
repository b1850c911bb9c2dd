// Draws the charts, each from the JSON that stands in its place.

const OPTIONS = { renderer: "svg", actions: false, ast: true };

async function draw(place) {
  const spec = JSON.parse(place.querySelector("script").textContent);
  try {
    await vegaEmbed(place, spec, OPTIONS);
  } catch (error) {
    place.textContent = `This chart cannot be drawn: ${error.message}`;
    console.error(error);
  }
}

// What is folded away would be missing on paper; tables of numbers may.
const folded = document.querySelectorAll("details.failure:not([open])");

addEventListener("beforeprint", () => folded.forEach((each) => (each.open = true)));
addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));

for (const place of document.querySelectorAll(".chart")) {
  await draw(place);
}
document.documentElement.dataset.charts = "drawn";
