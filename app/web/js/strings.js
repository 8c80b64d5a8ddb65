// Every word of the page, in English and Spanish; the browser's language chooses.

const STRINGS = {
  en: {
    title: "Face filter",
    lead: "Take a photo of a face, move a dial, and see it older, younger or smiling.",
    privacy: "Everything happens on this device. No picture leaves it.",
    consent: "Everybody in my photo has agreed to be edited. I show nobody an edited picture as a real one.",
    consentFirst: "Tick the box first: ask the people in the photo.",
    choose: "Choose a photo", take: "Take a photo", live: "Live camera", drop: "or drop or paste one here",
    samples: "No photo? These people do not exist:", sample: "Generated face",
    loading: "Loading the networks (once, then it also works offline) …", ready: "Ready.",
    searching: "Looking for faces …", working: "Working …",
    noFace: "No face was found. Choose a photo with a face seen from the front, at least 60 pixels high.",
    oneFace: "One face found.", manyFaces: (n) => `${n} faces found. Tap one to edit it or leave it as it is.`,
    broken: "This file cannot be read as a picture. Choose a JPEG, PNG or WebP file.",
    cameraRefused: "The camera could not be opened. Allow it in the browser, or choose a photo. Cameras need https or this computer.",
    engineFailed: "The networks could not be loaded. Reload the page; the browser must allow WebAssembly.",
    failed: "That did not work. Try again, or choose another photo.",
    dials: "Dials", age: "Age", gender: "Perceived gender", smile: "Smile", fuller: "Face",
    ends: { age: ["younger", "older"], gender: ["female", "male"], smile: ["less", "more"], fuller: ["thinner", "fuller"] },
    unchanged: "unchanged", years: (n) => `${n > 0 ? "+" : "−"}${Math.abs(n)} years`,
    divider: "Before and after", before: "Before", after: "After",
    again: "Again", againHint: "Pass the result through once more", undo: "Undo", reset: "Reset dials",
    save: "Save", format: "Format", share: "Share", strip: "Strip of ages", close: "Close", another: "Another photo",
    stop: "Stop camera", snap: "Keep this picture", flip: "Other camera", face: (n) => `Face ${n}`,
    edited: "edited", stripAlt: "The face at five ages, from younger to older",
    photoAlt: "Your photo; the divider shows it before and after the edit",
    about: "Made by a small network that learned from pairs of people who do not exist. Perceived age and gender are a network's guesses. Research and teaching only.",
  },
  es: {
    title: "Filtro de caras",
    lead: "Haz una foto de una cara, mueve un control y mírala mayor, más joven o sonriente.",
    privacy: "Todo ocurre en este dispositivo. Ninguna imagen sale de él.",
    consent: "Todas las personas de mi foto están de acuerdo con que la edite. No enseñaré una imagen editada como si fuera real.",
    consentFirst: "Marca primero la casilla: pregunta a las personas de la foto.",
    choose: "Elegir una foto", take: "Hacer una foto", live: "Cámara en vivo", drop: "o suelta o pega una aquí",
    samples: "¿Sin foto? Estas personas no existen:", sample: "Cara generada",
    loading: "Cargando las redes (una vez; después funciona también sin conexión) …", ready: "Listo.",
    searching: "Buscando caras …", working: "Trabajando …",
    noFace: "No se encontró ninguna cara. Elige una foto con una cara de frente, de al menos 60 píxeles de alto.",
    oneFace: "Se encontró una cara.", manyFaces: (n) => `Se encontraron ${n} caras. Toca una para editarla o dejarla como está.`,
    broken: "Este archivo no se puede leer como imagen. Elige un archivo JPEG, PNG o WebP.",
    cameraRefused: "No se pudo abrir la cámara. Permítela en el navegador o elige una foto. La cámara necesita https o este ordenador.",
    engineFailed: "No se pudieron cargar las redes. Recarga la página; el navegador debe permitir WebAssembly.",
    failed: "Eso no funcionó. Inténtalo otra vez o elige otra foto.",
    dials: "Controles", age: "Edad", gender: "Género percibido", smile: "Sonrisa", fuller: "Cara",
    ends: { age: ["más joven", "mayor"], gender: ["femenino", "masculino"], smile: ["menos", "más"], fuller: ["más fina", "más llena"] },
    unchanged: "sin cambio", years: (n) => `${n > 0 ? "+" : "−"}${Math.abs(n)} años`,
    divider: "Antes y después", before: "Antes", after: "Después",
    again: "Otra vez", againHint: "Pasa el resultado una vez más por la red", undo: "Deshacer", reset: "Controles a cero",
    save: "Guardar", format: "Formato", share: "Compartir", strip: "Tira de edades", close: "Cerrar", another: "Otra foto",
    stop: "Parar la cámara", snap: "Quedarse con esta imagen", flip: "Otra cámara", face: (n) => `Cara ${n}`,
    edited: "editada", stripAlt: "La cara en cinco edades, de más joven a mayor",
    photoAlt: "Tu foto; el divisor la muestra antes y después de la edición",
    about: "Hecho por una red pequeña que aprendió de parejas de personas que no existen. La edad y el género percibidos son estimaciones de una red. Solo para investigar y enseñar.",
  },
};

export const language = navigator.languages?.find((code) => STRINGS[code.slice(0, 2)])?.slice(0, 2) ?? "en";
export const text = STRINGS[language];

/** Put the words into the page: data-text names the content, data-label the accessible name. */
export function translate(root = document) {
  document.documentElement.lang = language;
  document.title = text.title;
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = text[node.dataset.text];
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", text[node.dataset.label]);
  for (const node of root.querySelectorAll("[data-title]")) node.title = text[node.dataset.title];
}
