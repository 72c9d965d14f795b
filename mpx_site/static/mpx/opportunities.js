// The slider "would a person have caught it": it shows rows of the table that the page already has.

const box = document.getElementById("caught");

function start() {
  const slider = box.querySelector(".slider");
  const rows = [...box.querySelectorAll(".catches tbody tr")];
  const field = document.querySelector("form.filters [name=seconds]");
  const marker = document.querySelector(".lives .marker");

  function put(name, text) {
    document.querySelectorAll(`.catch-${name}`).forEach((place) => { place.textContent = text; });
  }

  function show(row) {
    const [name, count, share, profit] = [...row.cells].map((cell) => cell.textContent);
    put("name", name);
    put("count", count);
    put("share", share);
    put("profit", profit);
    field.value = row.dataset.seconds;
    slider.firstElementChild.setAttribute("aria-valuetext", name);
    marker?.setAttribute("d", `M${row.dataset.x} 0V120`);
  }

  slider.hidden = false;
  box.querySelector(".slider-else").hidden = true;
  slider.addEventListener("input", () => show(rows[Number(slider.firstElementChild.value)]));
}

if (box) start();
